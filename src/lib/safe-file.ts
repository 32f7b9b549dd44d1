import { type BigIntStats, constants } from 'node:fs'
import { type FileHandle, open, unlink } from 'node:fs/promises'
import type { Brand } from './brand.js'
import { type Parsed, parsed, refused } from './parsed.js'

/** The way to a file from a directory down: `flows.txt`, `lab/flows.txt`. It has no part that leads up or elsewhere. */
export type PathBelow = Brand<string, 'PathBelow'>

const maxPathBytes = 1_024
const maxPartBytes = 255

export function parsePathBelow(text: string): Parsed<PathBelow> {
  if (text === '') return refused('is empty')
  if (text.includes('\0')) return refused('holds a NUL')
  if (Buffer.byteLength(text) > maxPathBytes) return refused(`is longer than ${maxPathBytes} bytes`)
  if (text.startsWith('/')) return refused('is an absolute path')
  for (const part of text.split('/')) {
    if (part === '' || part === '.' || part === '..') return refused(`has the part ${JSON.stringify(part)}`)
    if (Buffer.byteLength(part) > maxPartBytes) return refused(`has a part longer than ${maxPartBytes} bytes`)
  }
  return parsed(text as PathBelow)
}

const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_APPEND, O_NONBLOCK } = constants
const newFileMode = 0o640

/**
 * Creates a file below `directory` and opens it for appending: mode 0640, never an existing file, through no symbolic link
 * on the way from `directory` down. The folders on the way must exist.
 *
 * Errors: those of open(2), such as EEXIST, ENOENT, and ELOOP or ENOTDIR for a symbolic link.
 */
export async function createFileBelow(directory: string, path: PathBelow): Promise<FileHandle> {
  return await inFolder(directory, path, async (folder, name) => {
    const file = await open(`${folder}/${name}`, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW, newFileMode)
    try {
      // Whatever the umask.
      await file.chmod(newFileMode)
      return file
    } catch (error) {
      await file.close()
      throw error
    }
  })
}

/** Opens an existing file as {@link createFileBelow} left it, for appending. Errors: as there; EINVAL: no plain file. */
export async function reopenFileBelow(directory: string, path: PathBelow): Promise<FileHandle> {
  return await inFolder(directory, path, async (folder, name) => {
    // Without O_NONBLOCK, opening a named pipe would wait for its reader.
    const file = await open(`${folder}/${name}`, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK)
    const stats = await file.stat()
    if (stats.isFile() && stats.nlink === 1) return file
    await file.close()
    throw Object.assign(new Error(`EINVAL: ${path} is not a plain file with one name`), { code: 'EINVAL' })
  })
}

/**
 * Tells a file from a later one in its place: inode number, and time of birth in nanoseconds since the epoch;
 * `12:1700000000000000000`.
 */
export type FileIdentity = Brand<string, 'FileIdentity'>

export function parseFileIdentity(text: string): Parsed<FileIdentity> {
  return /^\d+:\d+$/.test(text) ? parsed(text as FileIdentity) : refused('is not INODE:BIRTH')
}

/** Of an open file. Its device is left out: it may have another number when the host has started anew. */
export async function identityOf(file: FileHandle): Promise<FileIdentity> {
  return identityOfStats(await file.stat({ bigint: true }))
}

/** Inode numbers alone are given again at once. Where a file system knows no time of birth, it is 0. statx(2). */
export function identityOfStats({ ino, birthtimeNs }: BigIntStats): FileIdentity {
  return `${ino}:${birthtimeNs}` as FileIdentity
}

/** Removes what {@link createFileBelow} created. */
export async function removeFileBelow(directory: string, path: PathBelow): Promise<void> {
  await inFolder(directory, path, (folder, name) => unlink(`${folder}/${name}`))
}

async function inFolder<T>(
  directory: string,
  path: PathBelow,
  work: (folder: string, name: string) => Promise<T>,
): Promise<T> {
  const { folder, name } = await openFolder(directory, path)
  try {
    return await work(`/proc/self/fd/${folder.fd}`, name)
  } finally {
    await folder.close()
  }
}

/**
 * Opens the folder that a file below `directory` is in, through no symbolic link on the way; `name` is the file's in there.
 * Node.js has no openat(2): each folder is opened from the one before it, by the kernel's own name for that one.
 */
export async function openFolder(
  directory: string,
  path: PathBelow,
): Promise<{ readonly folder: FileHandle; readonly name: string }> {
  const parts = path.split('/')
  const name = parts.pop() ?? ''
  let folder = await open(directory, O_RDONLY | O_DIRECTORY)
  try {
    for (const part of parts) {
      const next = await open(`/proc/self/fd/${folder.fd}/${part}`, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
      await folder.close()
      folder = next
    }
    return { folder, name }
  } catch (error) {
    await folder.close()
    throw error
  }
}
