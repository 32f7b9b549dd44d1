import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { checkout } from './readme.js'

/** The program as it is installed, made beside the tests. */
export const mainProgram = fileURLToPath(new URL('../../dist/main.js', import.meta.url))

/** How a command ended. */
export interface Ended {
  /** Exit status, or the name of the signal. */
  readonly status: number | string
  readonly stdout: string
  readonly stderr: string
}

/** Words of a shell's line that mean themselves: the path of a checkout may have a space in it. */
export function quoted(...words: readonly string[]): string {
  return words.map(word => `'${word.replaceAll("'", "'\\''")}'`).join(' ')
}

/** Runs a command at the root of the checkout, in the namespace the test is in. The signal kills it. */
export function command(signal: AbortSignal, program: string, ...args: readonly string[]): Promise<Ended> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { cwd: fileURLToPath(checkout), signal }, (error, stdout, stderr) => {
      if (signal.aborted) reject(signal.reason)
      else resolve({ status: error === null ? 0 : (error.code ?? error.signal ?? ''), stdout, stderr })
    })
  })
}

/** The standard output of a command that must succeed. */
export async function output(signal: AbortSignal, program: string, ...args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await command(signal, program, ...args)
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${status}: ${stdout}${stderr}`)
  return stdout
}
