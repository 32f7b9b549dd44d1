/** The lines of a daemon's log, parsed, out of all that it said on standard error. */
export function logOf(stderr: string): readonly Readonly<Record<string, unknown>>[] {
  return stderr.split('\n').flatMap(line => (line.startsWith('{') ? [JSON.parse(line) as Record<string, unknown>] : []))
}
