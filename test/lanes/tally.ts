/** What a run of node:test came to: its failures, and what its closing diagnostics count. */
interface TestEvent {
  readonly type: string
  readonly data?: {
    readonly nesting?: number
    readonly message?: string
    readonly name?: string
    readonly details?: { readonly error?: Error }
  }
}

/**
 * A node:test reporter that writes, when the run is over, a line `RAN PASSED FAILED`, and a line of each test that failed with what
 * it says: the end of a long output is what people see of it. Skipped tests and todos did not run; a cancelled test failed.
 */
export default async function* tally(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const counts = new Map<string, number>()
  const failures: string[] = []
  for await (const { type, data } of events) {
    if (type === 'test:fail') failures.push(`${data?.name}: ${oneLine(data?.details?.error)}`)
    if (type !== 'test:diagnostic' || data?.nesting !== 0) continue
    const [, what, count] = /^(pass|fail|cancelled) (\d+)$/.exec(data.message ?? '') ?? []
    if (what !== undefined) counts.set(what, Number(count))
  }
  const passed = counts.get('pass') ?? 0
  const failed = (counts.get('fail') ?? 0) + (counts.get('cancelled') ?? 0)
  yield `${passed + failed} ${passed} ${failed}\n`
  for (const failure of failures) yield `${failure}\n`
}

/** node:test wraps what a test threw. */
function oneLine(error: Error | undefined): string {
  const { message } = error?.cause instanceof Error ? error.cause : { message: error?.message ?? '' }
  return message.replaceAll(/\s+/g, ' ').trim().slice(0, 1_000)
}
