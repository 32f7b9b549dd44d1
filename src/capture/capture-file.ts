import { close, constants, fchmodSync, fstatSync, lstatSync, openSync, unlinkSync } from 'node:fs'
import { type FileHandle, lstat, mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type FileIdentity, identityOfStats, openFolder, type PathBelow } from '../lib/safe-file.js'

/** A file that was made for a capture. Its descriptors are its owner's to close. */
export interface CaptureFile {
  readonly fd: number
  /** That the file is in. */
  readonly folder: FileHandle
  /** Within the folder. */
  readonly name: string
  readonly identity: FileIdentity
}

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants
const fileMode = 0o640
const directoryMode = 0o750

const closeFd = promisify(close)

/**
 * Makes a new file below `root`, which is made as well if it is not there: mode 0640, never over an existing one, through no
 * symbolic link. The folders on the way must exist. Errors: those of open(2); nothing is made then.
 */
export async function createCaptureFile(root: string, path: PathBelow): Promise<CaptureFile> {
  await mkdir(root, { recursive: true, mode: directoryMode })
  const { folder, name } = await openFolder(root, path)
  try {
    return { ...createBeside(folder.fd, name), folder, name }
  } catch (error) {
    await folder.close()
    throw error
  }
}

/** Removes a file that was made in vain. */
export function removeCaptureFile({ folder, name, identity }: CaptureFile): void {
  removeBeside(folder.fd, name, identity)
}

/** For a file that no capture has taken over. */
export async function closeFile({ fd }: CaptureFile): Promise<void> {
  await closeFd(fd)
}

/** As {@link createCaptureFile}, in a folder that is open. */
export function createBeside(folderFd: number, name: string): { readonly fd: number; readonly identity: FileIdentity } {
  const fd = openSync(inFolder(folderFd, name), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, fileMode)
  // Whatever the umask.
  fchmodSync(fd, fileMode)
  return { fd, identity: identityOfStats(fstatSync(fd, { bigint: true })) }
}

/** Removes a file, unless another has come in its place; whether it was there. */
export function removeBeside(folderFd: number, name: string, identity: FileIdentity): boolean {
  const path = inFolder(folderFd, name)
  const stats = lstatSync(path, { bigint: true, throwIfNoEntry: false })
  if (stats === undefined || identityOfStats(stats) !== identity) return false
  unlinkSync(path)
  return true
}

/** What openat(2) would take. */
function inFolder(folderFd: number, name: string): string {
  return `/proc/self/fd/${folderFd}/${name}`
}

/** Bytes of all files below a directory; 0 when it is not there. */
export async function bytesBelow(directory: string): Promise<number> {
  let bytes = 0
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => [])
  for (const entry of entries) {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) bytes += await bytesBelow(path)
    // One that goes meanwhile takes no room.
    else if (entry.isFile())
      bytes += await lstat(path).then(
        ({ size }) => size,
        () => 0,
      )
  }
  return bytes
}
