import { mkdirSync } from 'node:fs'
import { loadTestSyscalls } from './syscalls.js'

/** A small file system of its own at `path`, until disposed. */
export function mountTmpfs(path: string, bytes: number): Disposable {
  mkdirSync(path, { recursive: true })
  const syscalls = loadTestSyscalls()
  syscalls.mountTmpfs(path, `size=${bytes}`)
  return { [Symbol.dispose]: () => syscalls.unmount(path) }
}
