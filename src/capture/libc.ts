import koffi from 'koffi'
import { numeric, type Pointer, pointing, silent } from './native.js'

/** Memory and streams (stdio(3)) of the C library, on the calling thread. */
export interface Libc {
  /** A stream that writes to a descriptor, which is the stream's from now on, through a buffer of ours. */
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

const _IOFBF = 0

export function loadLibc(): Libc {
  const library = koffi.load('libc.so.6')
  const fdopen = pointing(library, 'void *fdopen(int, const char *)')
  const fmemopen = pointing(library, 'void *fmemopen(void *, size_t, const char *)')
  const setvbuf = numeric(library, 'int setvbuf(void *, void *, int, size_t)')
  const memcpy = silent(library, 'void memcpy(void *, void *, size_t)')
  const malloc = pointing(library, 'void *malloc(size_t)')
  const allocate = (bytes: number) => existing(malloc(bytes), 'malloc')
  return {
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

function existing(pointer: Pointer, what: string): Pointer {
  if (pointer === 0n) throw new Error(`${what}: errno ${koffi.errno()}`)
  return pointer
}
