/** What a run of node:test came to, as its closing diagnostics count it. */
interface TestEvent {
  readonly type: string
  readonly data?: { readonly nesting?: number; readonly message?: string }
}

/**
 * A node:test reporter that writes one line, `RAN PASSED FAILED`, when the run is over.
 * Skipped tests and todos did not run; a cancelled test failed.
 */
export default async function* tally(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const counts = new Map<string, number>()
  for await (const { type, data } of events) {
    if (type !== 'test:diagnostic' || data?.nesting !== 0) continue
    const [, what, count] = /^(pass|fail|cancelled) (\d+)$/.exec(data.message ?? '') ?? []
    if (what !== undefined) counts.set(what, Number(count))
  }
  const passed = counts.get('pass') ?? 0
  const failed = (counts.get('fail') ?? 0) + (counts.get('cancelled') ?? 0)
  yield `${passed + failed} ${passed} ${failed}\n`
}
