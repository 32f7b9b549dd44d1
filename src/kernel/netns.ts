import { littleEndian, viewOf } from '../lib/byte-order.js'
import { KernelError } from './errors.js'
import { refusalOf, type WorkerContext } from './worker-context.js'

/** Where ip-netns(8) keeps named namespaces. */
const namedNetnsDirectory = '/run/netns'

const O_CLOEXEC = 0o2000000
/** So that a FIFO of that name holds nobody up. */
const O_NONBLOCK = 0o4000
/** <linux/magic.h> */
const NSFS_MAGIC = 0x6e736673
/** ioctl_ns(2): which kind of namespace a descriptor is; clone(2)'s flag for the network one. */
const NS_GET_NSTYPE = 0xb703
const CLONE_NEWNET = 0x40000000
const statfsBytes = 120

/** Lends `use` a descriptor of the namespace, which is referred to and never entered. */
export function withNetns<T>(context: WorkerContext, netns: string, operation: string, use: (fd: number) => T): T {
  const fault = (detail: string) => new KernelError({ operation, kind: 'no-netns', netns, detail })
  const path = pathOf(netns)
  if (path === undefined) throw fault('is neither a name nor an absolute path')
  const { syscalls } = context
  const fd = syscalls.open(path, O_CLOEXEC | O_NONBLOCK)
  if (fd < 0) throw fault(`cannot open ${path}: ${refusalOf(-fd, '').errno}`)
  try {
    if (!isNetns(context, fd)) throw fault(`${path} is not a network namespace`)
    return use(fd)
  } finally {
    syscalls.close(fd)
  }
}

function pathOf(netns: string): string | undefined {
  if (netns.includes('\0')) return undefined
  if (netns.startsWith('/')) return netns
  if (netns === '' || netns === '.' || netns === '..' || netns.includes('/')) return undefined
  return `${namedNetnsDirectory}/${netns}`
}

/** The file system first: to another file the ioctl could mean anything. */
function isNetns({ syscalls }: WorkerContext, fd: number): boolean {
  const statfs = new Uint8Array(statfsBytes)
  if (syscalls.fstatfs(fd, statfs) < 0) return false
  // f_type, a long, comes first.
  const type = viewOf(statfs).getBigInt64(0, littleEndian)
  return type === BigInt(NSFS_MAGIC) && syscalls.ioctl(fd, NS_GET_NSTYPE, 0) === CLONE_NEWNET
}
