import { constants, fstatSync, openSync, writeSync } from 'node:fs'
import { isatty } from 'node:tty'
import { POLLOUT } from '../lib/poll-set.js'
import { loadSyscalls } from '../lib/syscall.js'

/** A descriptor that lines are written to. Nothing waits for who reads it but `flush`, for two seconds at most. */
export interface Lines {
  /**
   * Lines that come one upon the other are written together, by the end of the next turn of the event loop: a process that is
   * killed before has not said them. An urgent one is written at once, after those before it.
   */
  write(line: string, isUrgent?: boolean): void
  /**
   * For the end of the process: writes what has not been taken yet, for a second. What is left then is left out but for
   * the last line, which has another, with how many they were.
   */
  flush(): void
}

/** What is taken at once by a pipe that is ready for more: pipe(7), PIPE_BUF. */
const pieceBytes = 4_096

const mostWaitingBytes = 2 ** 20
const lookEveryMs = 20
const flushMs = 1_000

/**
 * A reader that is stuck must not stop the daemon. So each write asks poll(2) first, and a mebibyte waits at most.
 * Further lines are left out until all of that is written; `tellLost` makes a line of how many they were. A full disk
 * and a pipe without a reader are like a reader that is stuck.
 */
export function openLines(shared: number, tellLost: (lost: number) => string): Lines {
  const fd = reopened(shared)
  const isReady = readiness(fd)
  let waiting: Buffer[] = []
  let waitingBytes = 0
  let lost = 0
  let last = ''
  let timer: NodeJS.Timeout | undefined
  let soon: NodeJS.Immediate | undefined

  const writePiece = () => {
    let written = writeSync(fd, pieceOf(waiting))
    waitingBytes -= written
    let [first] = waiting
    for (; first !== undefined && written >= first.length; [first] = waiting) {
      written -= first.length
      waiting.shift()
    }
    if (first !== undefined) waiting[0] = first.subarray(written)
  }
  const add = (line: string) => {
    const bytes = Buffer.from(line)
    waiting.push(bytes)
    waitingBytes += bytes.length
  }
  const writeOut = (waitMs: number) => {
    clearTimeout(timer)
    clearImmediate(soon)
    timer = undefined
    soon = undefined
    const untilMs = performance.now() + waitMs
    try {
      while (waiting.length > 0 && isReady(Math.max(0, Math.ceil(untilMs - performance.now())))) {
        writePiece()
        if (waiting.length > 0 || lost === 0) continue
        add(tellLost(lost))
        lost = 0
      }
    } catch {
      // There is nobody else to tell, and it may pass.
    }
    if (waiting.length > 0) timer = setTimeout(writeOut, lookEveryMs, 0).unref()
  }
  // In one piece if they fit, since that is what a pipe has room for. A line that is begun stays first.
  const keepEnds = () => {
    const [begun = Buffer.alloc(0), ...others] = waiting
    lost += others.length
    if (lost === 0) return
    const ends = Buffer.from((lost > 1 ? tellLost(lost - 1) : '') + last)
    waiting = [Buffer.concat([begun, ends])]
    waitingBytes = begun.length + ends.length
    lost = 0
  }
  return {
    write: (line, isUrgent = false) => {
      last = line
      // Only lines that a reader has no room for may be too many.
      const isFull = waiting.length > 0 && waitingBytes + line.length > pieceBytes
      if (timer === undefined && isFull) writeOut(0)
      if (lost > 0 || (waiting.length > 0 && waitingBytes + line.length > mostWaitingBytes)) lost++
      else add(line)
      if (timer !== undefined) return
      if (isUrgent) writeOut(0)
      else soon ??= setImmediate(writeOut, 0)
    },
    flush: () => {
      writeOut(flushMs)
      if (waiting.length === 0) return
      keepEnds()
      writeOut(flushMs)
      // A second flush is not to wait as long again.
      if (waiting.length > 0) waiting = []
      waitingBytes = 0
    },
  }
}

/** Whole lines, unless the first is longer by itself. */
function pieceOf(lines: readonly Buffer[]): Buffer {
  const [first = Buffer.alloc(0)] = lines
  if (first.length >= pieceBytes) return first.subarray(0, pieceBytes)
  let bytes = 0
  const tooMany = lines.findIndex(line => (bytes += line.length) > pieceBytes)
  return Buffer.concat(tooMany < 0 ? lines : lines.slice(0, tooMany))
}

/**
 * A pipe may be filled by another process that has it, and a terminal stopped, between poll(2) and a write. O_NONBLOCK
 * would be that of all who have the same standard error, unless it is opened anew. What cannot be, as a socket, is used
 * as it is.
 */
function reopened(fd: number): number {
  try {
    if (!fstatSync(fd).isFIFO() && !isatty(fd)) return fd
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
  } catch {
    return fd
  }
}

/** Whether a descriptor takes a piece without waiting, or has nobody who reads it, within so many milliseconds. */
function readiness(fd: number): (waitMs: number) => boolean {
  const set = loadSyscalls().newPollSet()
  set.add(fd, POLLOUT)
  return waitMs => set.wait(waitMs) > 0
}
