import koffi, { type node } from 'koffi'

/** Tells, on this thread's event loop, that a descriptor has input. Disposing leaves the descriptor open. */
export interface ReadableWatch extends Disposable {
  start(): void
  pause(): void
}

/** Calls `onReadable` whenever `fd` has input while the watch is on; it must read until there is none. */
export function watchReadable(fd: number, onReadable: () => void): ReadableWatch {
  let poll: node.PollHandle | undefined
  return {
    start: () => {
      poll ??= koffi.node.poll(fd, { readable: true }, onReadable)
    },
    pause: () => {
      poll?.close()
      poll = undefined
    },
    [Symbol.dispose]: () => {
      poll?.close()
      poll = undefined
    },
  }
}
