import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { loadTestSyscalls, type TestSyscalls } from './syscalls.js'

/** setns(2), unshare(2) */
const CLONE_NEWNET = 0x40000000
const O_CLOEXEC = 0o2000000

/** The namespace of the calling thread; its processes, threads and sockets inherit it as they are made. */
const THREAD_NETNS = '/proc/thread-self/ns/net'

/** Where `ip netns` and CreateContainerTap look a name up. */
const NETNS_FOLDER = '/run/netns'

/** A network namespace with `lo` up, for as long as it is not disposed. */
export interface Namespace extends Disposable {
  /** Its name under /run/netns. */
  readonly name: string
  readonly path: string
  /** Runs `action` inside. It must be synchronous: everything else of this thread would be inside as well. */
  run<T>(action: () => T): T
}

/** The namespace that a test's main thread is in, and what it opened there. */
export interface TestNamespace extends Disposable {
  /** Its path, also from inside another. */
  readonly path: string
  readonly name: string
  run<T>(action: () => T): T
}

/**
 * Puts the calling thread into a fresh network namespace until disposed. Whatever is made meanwhile lives there:
 * child processes, worker threads, sockets. Tests that do so cannot run concurrently in one process.
 */
export function enterNamespace(): TestNamespace {
  const syscalls = loadTestSyscalls()
  const origin = syscalls.open(THREAD_NETNS, O_CLOEXEC)
  const inside = makeNamespace(uniqueName('test'))
  inside.enter()
  return {
    name: inside.name,
    path: inside.path,
    run: action => inside.run(action),
    [Symbol.dispose]: () => {
      syscalls.setns(origin, CLONE_NEWNET)
      syscalls.close(origin)
      inside[Symbol.dispose]()
    },
  }
}

/**
 * Makes a namespace, such as a container's, that can be named to others; the calling thread stays where it is.
 * Its name is unique; `label` only makes it readable.
 */
export function createNamespace(label = 'ns'): Namespace {
  return makeNamespace(uniqueName(label))
}

/** Makes one of the same name again, as a container that is started anew; the former one must be gone. */
export function createNamespaceAgain(former: Namespace): Namespace {
  return makeNamespace(former.name)
}

function makeNamespace(name: string): Namespace & { enter(): void } {
  const syscalls = loadTestSyscalls()
  const path = `${NETNS_FOLDER}/${name}`
  mkdirSync(NETNS_FOLDER, { recursive: true, mode: 0o755 })
  writeFileSync(path, '', { flag: 'wx' })
  const origin = syscalls.open(THREAD_NETNS, O_CLOEXEC)
  try {
    syscalls.unshare(CLONE_NEWNET)
    try {
      setUp(syscalls, 'lo')
      syscalls.bindMount(THREAD_NETNS, path)
    } finally {
      syscalls.setns(origin, CLONE_NEWNET)
    }
  } finally {
    syscalls.close(origin)
  }
  const fd = syscalls.open(path, O_CLOEXEC)
  let disposed = false
  return {
    name,
    path,
    run: action => visit(syscalls, fd, action),
    enter: () => syscalls.setns(fd, CLONE_NEWNET),
    [Symbol.dispose]: () => {
      if (disposed) return
      disposed = true
      syscalls.close(fd)
      syscalls.unmount(path)
      rmSync(path)
    },
  }
}

function visit<T>(syscalls: TestSyscalls, fd: number, action: () => T): T {
  const here = syscalls.open(THREAD_NETNS, O_CLOEXEC)
  try {
    syscalls.setns(fd, CLONE_NEWNET)
    try {
      return action()
    } finally {
      syscalls.setns(here, CLONE_NEWNET)
    }
  } finally {
    syscalls.close(here)
  }
}

const AF_INET = 2
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
/** netdevice(7) */
const SIOCSIFFLAGS = 0x8914
const IFF_UP = 0x1
const IFREQ_BYTES = 40

/** Brings a link of this thread's namespace up. */
export function setUp(syscalls: TestSyscalls, name: string): void {
  const request = Buffer.alloc(IFREQ_BYTES)
  request.write(name)
  request.writeInt16LE(IFF_UP, 16)
  const fd = syscalls.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  try {
    syscalls.ioctl(fd, SIOCSIFFLAGS, request)
  } finally {
    syscalls.close(fd)
  }
}

/** The names of all links of this thread's namespace, sorted. */
export function linkNames(): readonly string[] {
  const lines = readFileSync('/proc/thread-self/net/dev', 'utf8').split('\n').slice(2)
  return lines
    .map(line => line.slice(0, line.lastIndexOf(':')).trim())
    .filter(name => name !== '')
    .sort()
}

/** Unique among processes, by the pid, and within one, by the clock: both fit into a link's name too. */
function uniqueName(label: string): string {
  return `obd-${label}-${process.pid}-${process.hrtime.bigint().toString(36)}`
}
