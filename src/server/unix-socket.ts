import {
  chmod,
  chown,
  link,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  rmdir,
  unlink,
} from 'node:fs/promises'
import { connect } from 'node:net'
import { dirname, isAbsolute, join, parse, resolve } from 'node:path'
import { maxSocketPathBytes, type SocketPath } from '../lib/socket-address.js'
import { codeOf, messageOf } from '../lib/thrown.js'
import { ListenError } from './listen-error.js'

export interface UnixSocketOptions {
  readonly path: SocketPath
  readonly mode: number
  readonly group: string | undefined
  /** Directories that are made when a socket is to be in one of them and it does not exist. */
  readonly ownDirectories: readonly OwnDirectory[]
}

export interface OwnDirectory {
  readonly path: string
  readonly mode: number
}

/**
 * Has `listen` bind in a directory that only we can enter, gives the socket its mode and group there, then gives it its
 * name: between bind(2) and chmod(2) a socket has whatever mode umask left. Resolves to what removes it again.
 */
export async function bindUnix(
  options: UnixSocketOptions,
  listen: (path: string) => Promise<void>,
): Promise<() => Promise<void>> {
  const { path, mode, group } = options
  const address = `unix:${path}`
  const directory = dirname(path)
  const own = options.ownDirectories.find(one => one.path === directory)
  // As with the socket, umask is not to say who may enter.
  const isNew = own !== undefined && (await mkdir(directory, { recursive: true, mode: 0o700 })) !== undefined
  if (isNew) await chmod(directory, own.mode)
  await refuseUnlessSafe(directory, address)
  const stale = await refuseUnlessFree(path)
  await removeLeft(directory)
  const inner = await mkdtemp(join(directory, `${newPrefix}${process.pid}-`)).catch((cause: unknown) => {
    throw new ListenError(
      { kind: 'cannot-bind', address, message: `cannot make ${path}: ${messageOf(cause)}` },
      { cause },
    )
  })
  try {
    const fresh = join(inner, 's')
    if (Buffer.byteLength(fresh) > maxSocketPathBytes) {
      const message = `cannot make ${path}: the name of its directory is too long`
      throw new ListenError({ kind: 'cannot-bind', address, message })
    }
    await listen(fresh)
    if (group !== undefined) await giveToGroup(fresh, group, address)
    await chmod(fresh, mode)
    const { ino, dev } = await lstat(fresh)
    if (stale !== undefined) await removeIfSame(path, stale)
    await giveName(fresh, path)
    return () => removeIfSame(path, { ino, dev })
  } finally {
    await rm(join(inner, 's'), { force: true })
    await rmdir(inner)
  }
}

/** Directories that a socket is bound in are called so, and after the process that binds it. */
const newPrefix = '.new-'

/**
 * Removes what a process has left that was killed while it bound a socket. One that runs may be at it, but not we ourselves. What
 * cannot be removed, because another one that starts was first or somebody has put something there, is in nobody's way.
 */
async function removeLeft(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const [, pid] = /^\.new-(\d+)-\w{6}$/.exec(name) ?? []
    if (pid === undefined || (Number(pid) !== process.pid && isRunning(Number(pid)))) continue
    await removeOwn(join(directory, name)).catch(() => undefined)
  }
}

async function removeOwn(left: string): Promise<void> {
  const there = await lstat(left)
  if (!there.isDirectory() || there.uid !== process.getuid?.()) return
  await rm(join(left, 's'), { force: true })
  await rmdir(left)
}

/** kill(2): without a signal it only tells whether there is somebody, EPERM included. */
function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return !(error instanceof Error && 'code' in error && error.code === 'ESRCH')
  }
}

async function giveToGroup(fresh: string, group: string, address: string): Promise<void> {
  const gid = /^\d+$/.test(group) ? Number(group) : await groupNumber(group)
  if (gid === undefined) {
    throw new ListenError({ kind: 'cannot-bind', address, message: `there is no group ${group} to give ${address} to` })
  }
  await chown(fresh, process.getuid?.() ?? 0, gid).catch((cause: unknown) => {
    const message = `cannot give ${address} to the group ${group}: ${messageOf(cause)}`
    throw new ListenError({ kind: 'cannot-bind', address, message }, { cause })
  })
}

/** group(5). */
async function groupNumber(group: string): Promise<number | undefined> {
  const lines = (await readFile('/etc/group', 'utf8')).split('\n').map(line => line.split(':'))
  const gid = lines.find(([name]) => name === group)?.[2]
  return gid === undefined ? undefined : Number(gid)
}

/**
 * Nobody but root and ourselves may be able to put something else in the place of the socket: every directory and symbolic
 * link on the way is owned by one of the two, and only they write there, or it is sticky (inode(7)) as /tmp is.
 */
async function refuseUnlessSafe(directory: string, address: string): Promise<void> {
  const { root } = parse(directory)
  const left = directory.slice(root.length).split('/').filter(Boolean)
  let at = root
  for (let links = 0; ; ) {
    const there = await lstat(at).catch((cause: unknown) => {
      const message = `cannot make ${address}: ${messageOf(cause)}`
      throw new ListenError({ kind: 'cannot-bind', address, message }, { cause })
    })
    const mayBeReplaced = !there.isSymbolicLink() && (there.mode & 0o022) !== 0 && (there.mode & 0o1000) === 0
    const isForeign = there.uid !== 0 && there.uid !== process.getuid?.()
    if (mayBeReplaced || isForeign || ++links > 40) {
      const why = isForeign ? 'belongs to somebody else' : 'can be written to by others'
      const message = `cannot make ${address}: ${at} ${why}, who could take the socket's place`
      throw new ListenError({ kind: 'unsafe-path', address, message })
    }
    if (there.isSymbolicLink()) {
      const target = await readlink(at)
      left.unshift(...(isAbsolute(target) ? target : resolve(dirname(at), target)).split('/').filter(Boolean))
      at = root
      continue
    }
    const next = left.shift()
    if (next === undefined) return
    at = join(at, next)
  }
}

/** A path is free when nothing is there, or a socket of root's or ours that nobody listens on any more, which it resolves to. */
async function refuseUnlessFree(path: SocketPath): Promise<FileIdentity | undefined> {
  const address = `unix:${path}`
  const there = await lstat(path).catch(() => undefined)
  if (there === undefined) return undefined
  if (!there.isSocket()) {
    throw new ListenError({ kind: 'not-a-socket', address, message: `${path} exists and is not a socket` })
  }
  if (there.uid !== 0 && there.uid !== process.getuid?.()) {
    throw new ListenError({ kind: 'unsafe-path', address, message: `${path} is somebody else's socket` })
  }
  if ((await probe(path)) === 'answers') throw inUse(path)
  return there
}

/** Unlike rename(2), link(2) takes no name away from a daemon that started at the same time. */
async function giveName(fresh: string, path: SocketPath): Promise<void> {
  await link(fresh, path).catch((error: unknown) => {
    throw codeOf(error) === 'EEXIST' ? inUse(path) : error
  })
}

function inUse(path: SocketPath): ListenError {
  return new ListenError({
    kind: 'in-use',
    address: `unix:${path}`,
    message: `another daemon is listening on ${path}`,
  })
}

/** unix(7): ECONNREFUSED says that no process has the socket open; anything else, EAGAIN of a full backlog too, is life. */
function probe(path: SocketPath): Promise<'answers' | 'stale'> {
  return new Promise(resolve => {
    const socket = connect(path)
    const settle = (found: 'answers' | 'stale') => {
      socket.destroy()
      resolve(found)
    }
    socket.once('connect', () => settle('answers'))
    socket.once('error', (error: NodeJS.ErrnoException) =>
      settle(error.code === 'ECONNREFUSED' || error.code === 'ENOENT' ? 'stale' : 'answers'),
    )
  })
}

/** What tells a file from one that has its name since. */
interface FileIdentity {
  readonly ino: number
  readonly dev: number
}

/** A daemon that took the name over keeps its socket. */
async function removeIfSame(path: SocketPath, { ino, dev }: FileIdentity): Promise<void> {
  const there = await lstat(path).catch(() => undefined)
  if (there?.ino === ino && there.dev === dev) await unlink(path)
}
