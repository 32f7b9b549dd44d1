import { type Logger, pino } from 'pino'
import { openLines } from './lines.js'

/** Names of pino's levels, and `silent`. */
export const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const
export type LogLevel = (typeof logLevels)[number]

/**
 * The log: one JSON object a line on standard error; standard output is left to what the user reads. All of it is
 * ASCII, so that no name that a caller gives can do anything to a terminal. `flush` is for the end of the process: see
 * {@link tellEnd}.
 */
export function createLog(level: LogLevel): Logger {
  const lines = openLines(2, lost => `${JSON.stringify({ level: 'warn', time: now(), lost, msg: 'lines lost' })}\n`)
  const stream = {
    // With this pino says of which level the line is.
    [Symbol.for('pino.metadata')]: true,
    lastLevel: 0,
    write: (line: string): void => lines.write(line.replace(/[\x7f-\uffff]/g, escaped), stream.lastLevel >= warn),
    // As log.flush() and a line of level fatal have it.
    flush: lines.flush,
    flushSync: lines.flush,
  }
  const formatters = { level: (label: string) => ({ level: label }) }
  return pino({ level, base: null, timestamp: () => `,"time":"${now()}"`, formatters }, stream)
}

/**
 * Has the end of the process wait for who reads the log, two seconds at most. What nobody catches ends the process with
 * a status of its own, but not without a line.
 */
export function tellEnd(log: Logger): void {
  process.on('exit', () => log.flush())
  process.on('uncaughtExceptionMonitor', (error, origin) => log.fatal({ err: error, origin }, 'crash'))
}

const warn = pino.levels.values['warn'] ?? 40

function now(): string {
  return new Date().toISOString()
}

/** As JSON has it (RFC 8259 §7). */
function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}
