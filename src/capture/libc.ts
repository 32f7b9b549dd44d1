import { constants } from 'node:os'
import koffi from 'koffi'
import { littleEndian, numeric, type Pointer, pointing, silent } from './native.js'
import { PollSet } from './poll-set.js'

/** Of the C library, on the calling thread. Below zero is −errno. */
export interface Libc {
  eventfd(): number
  newPollSet(): PollSet
  /** Lets no further packet into a packet socket: a filter (socket(7), SO_ATTACH_FILTER) that takes none. */
  rejectAll(socket: number): void
  /** A stream (stdio(3)) that writes to a descriptor, which is the stream's from now on, through a buffer of ours. */
  openStream(fd: number, buffer: Pointer, bufferBytes: number): Pointer
  /** A stream that writes into memory, fmemopen(3). */
  openMemory(memory: Pointer, memoryBytes: number): Pointer
  /** Back to the first byte. */
  rewind(stream: Pointer): void
  /** A copy of memory. */
  read(memory: Pointer, bytes: number): Buffer
  allocate(bytes: number): Pointer
  free(memory: Pointer): void
}

const EFD_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SO_ATTACH_FILTER = 26
const _IOFBF = 0

export function loadLibc(): Libc {
  const library = koffi.load('libc.so.6')
  const eventfd = numeric(library, 'int eventfd(unsigned int, int)')
  const poll = numeric(library, 'int poll(void *, unsigned long, int)')
  const setsockopt = numeric(library, 'int setsockopt(int, int, int, const void *, uint32_t)')
  const fdopen = pointing(library, 'void *fdopen(int, const char *)')
  const fmemopen = pointing(library, 'void *fmemopen(void *, size_t, const char *)')
  const setvbuf = numeric(library, 'int setvbuf(void *, void *, int, size_t)')
  const memcpy = silent(library, 'void memcpy(void *, void *, size_t)')
  const malloc = pointing(library, 'void *malloc(size_t)')
  const allocate = (bytes: number) => existing(malloc(bytes), 'malloc')
  return {
    eventfd: () => failing(eventfd(0, EFD_CLOEXEC)),
    newPollSet: () => new PollSet(poll),
    rejectAll: socket => {
      const program = Buffer.from(rejectingProgram)
      const [bytes, lengthAt, pointerAt] = [16, 0, 8]
      const prog = new DataView(new ArrayBuffer(bytes))
      prog.setUint16(lengthAt, 1, littleEndian)
      prog.setBigUint64(pointerAt, koffi.address(program), littleEndian)
      failing(setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, new Uint8Array(prog.buffer), bytes))
    },
    openStream: (fd, buffer, bufferBytes) => {
      const stream = existing(fdopen(fd, 'w'), 'fdopen')
      setvbuf(stream, buffer, _IOFBF, bufferBytes)
      return stream
    },
    openMemory: (memory, memoryBytes) => existing(fmemopen(memory, memoryBytes, 'w'), 'fmemopen'),
    rewind: silent(library, 'void rewind(void *)'),
    read: (memory, bytes) => {
      const copy = Buffer.allocUnsafeSlow(bytes)
      memcpy(copy, memory, bytes)
      return copy
    },
    allocate,
    free: silent(library, 'void free(void *)'),
  }
}

/** One `struct sock_filter` of <linux/filter.h>: BPF_RET | BPF_K, 0 bytes. */
const rejectingProgram = [0x06, 0, 0, 0, 0, 0, 0, 0]

/** errno belongs to the thread and lasts until its next call: nothing may come between. */
function failing(result: number): number {
  return result < 0 ? -koffi.errno() : result
}

function existing(pointer: Pointer, what: string): Pointer {
  if (pointer === 0n) throw new Error(`${what}: errno ${koffi.errno()}`)
  return pointer
}

/** Name of a positive errno, `ENOSPC`. */
export function errnoName(errno: number): string {
  return Object.entries(constants.errno).find(([, value]) => value === errno)?.[0] ?? `errno ${errno}`
}
