/** Takes a line about a message that goes to the server (`>`) or comes from it (`<`). */
export type Trace = (line: string) => void

const maxCharacters = 2000
const uuid = /\b([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/g

/** A message in one line that can be read: uuids by their first eight digits, what is long cut off. */
export function traceLine(direction: '<' | '>', message: string): string {
  const start = message.slice(0, maxCharacters).replace(uuid, '$1…')
  const rest = message.length - maxCharacters
  return `${direction} ${start}${rest > 0 ? `… ${rest} characters more` : ''}`
}

/** Prints the wire to standard error when the environment has `OVSDB_TRACE=1`. */
export function traceOfEnvironment(): Trace | undefined {
  if (process.env['OVSDB_TRACE'] !== '1') return undefined
  return line => void process.stderr.write(`${line}\n`)
}
