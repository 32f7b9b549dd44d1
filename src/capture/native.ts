import koffi, { type LibraryHandle } from 'koffi'

/** An address in this process, which all its threads share. 0 is NULL. */
export type Pointer = bigint

/** A C function that returns a number; one that is only interrupted by a signal says so with −1. */
export function numeric(library: LibraryHandle, prototype: string): (...args: readonly unknown[]) => number {
  const native = library.func(prototype)
  return (...args) => {
    const result: unknown = native(...args)
    if (typeof result !== 'number') throw new TypeError(`${prototype} returned ${typeof result}`)
    return result
  }
}

/** A C function that returns a pointer. */
export function pointing(library: LibraryHandle, prototype: string): (...args: readonly unknown[]) => Pointer {
  const native = library.func(prototype)
  return (...args) => {
    const result: unknown = native(...args)
    if (result === null) return 0n
    if (typeof result !== 'bigint') throw new TypeError(`${prototype} returned ${typeof result}`)
    return result
  }
}

/** A C function that returns a string. */
export function textual(library: LibraryHandle, prototype: string): (...args: readonly unknown[]) => string {
  const native = library.func(prototype)
  return (...args) => String(native(...args))
}

/** A C function of which nothing is awaited. */
export function silent(library: LibraryHandle, prototype: string): (...args: readonly unknown[]) => void {
  const native = library.func(prototype)
  return (...args) => void native(...args)
}

// As for calls that are not pooled. libpcap's compiler recurses, and in koffi's 128 KiB the process would die of 200 ports.
koffi.config({ async_stack_size: 2 ** 21 })

/** koffi throws when more than 256 calls wait, and keeps a stack for as many as this. */
let freePlaces = 8
const waiting: (() => void)[] = []

/** A C function that runs on a thread of libuv's pool, so that it may take its time. */
export function pooled(library: LibraryHandle, prototype: string): (...args: readonly unknown[]) => Promise<unknown> {
  const native = library.func(prototype)
  return async (...args) => {
    if (freePlaces > 0) freePlaces--
    else await new Promise<void>(resolve => waiting.push(resolve))
    try {
      return await new Promise((resolve, reject) => {
        native.async(...args, (error: unknown, result: unknown) => {
          if (error === null || error === undefined) resolve(result)
          else reject(error instanceof Error ? error : new Error(`${prototype} failed`, { cause: error }))
        })
      })
    } finally {
      const next = waiting.shift()
      if (next === undefined) freePlaces++
      else next()
    }
  }
}

/** The text up to the first NUL of a buffer that a C function has filled. */
export function textIn(buffer: Buffer): string {
  const end = buffer.indexOf(0)
  return buffer.toString('utf8', 0, end < 0 ? buffer.length : end)
}
