import { writeSync } from 'node:fs'
import koffi from 'koffi'

/** A descriptor that lines are written to. Nothing waits for who reads it but `flush`, for a second. */
export interface Lines {
  write(line: string): void
  /** Writes what has not been taken yet, as far as it is taken now. */
  flush(): void
}

/** <poll.h>, and what is taken at once by a pipe that is ready for more (pipe(7), PIPE_BUF). */
const POLLOUT = 4
const pieceBytes = 4_096

const mostWaitingBytes = 2 ** 20
const lookEveryMs = 20
const flushMs = 1_000

/**
 * A reader that is stuck must not stop the daemon, and O_NONBLOCK would be that of every process that has the same standard error.
 * So each write asks poll(2) first, and a mebibyte waits at most. Further lines are left out until all of that is written;
 * `tellLost` makes a line of how many they were.
 */
export function openLines(fd: number, tellLost: (lost: number) => string): Lines {
  const isReady = readiness(fd)
  const waiting: Buffer[] = []
  let waitingBytes = 0
  let lost = 0
  let isOver = false
  let timer: NodeJS.Timeout | undefined

  const writePiece = () => {
    const [first = Buffer.alloc(0)] = waiting
    const written = writeSync(fd, first.subarray(0, pieceBytes))
    waitingBytes -= written
    if (written < first.length) waiting[0] = first.subarray(written)
    else waiting.shift()
  }
  const add = (line: string) => {
    const bytes = Buffer.from(line)
    waiting.push(bytes)
    waitingBytes += bytes.length
  }
  const writeOut = (waitMs: number) => {
    clearTimeout(timer)
    timer = undefined
    try {
      while (waiting.length > 0 && isReady(waitMs)) {
        writePiece()
        if (waiting.length > 0 || lost === 0) continue
        add(tellLost(lost))
        lost = 0
      }
    } catch {
      // There is no reader any more, and nobody to tell.
      isOver = true
      waiting.length = 0
    }
    if (waiting.length > 0) timer = setTimeout(writeOut, lookEveryMs, 0).unref()
  }
  return {
    write: line => {
      if (isOver) return
      if (lost > 0 || waitingBytes + line.length > mostWaitingBytes) lost++
      else add(line)
      if (timer === undefined) writeOut(0)
    },
    flush: () => writeOut(flushMs),
  }
}

/** Whether a descriptor takes a piece without waiting, or has nobody who reads it, within so many milliseconds (poll(2)). */
function readiness(fd: number): (waitMs: number) => boolean {
  const poll = koffi.load('libc.so.6').func('int poll(void *, unsigned long, int)')
  // struct pollfd: int fd; short events; short revents.
  const entry = Buffer.alloc(8)
  new Int32Array(entry.buffer, entry.byteOffset, 1)[0] = fd
  new Int16Array(entry.buffer, entry.byteOffset + 4, 1)[0] = POLLOUT
  return waitMs => Number(poll(entry, 1, waitMs)) > 0
}
