/** What has been counted of one tap, from its endpoint's side. */
export interface TapTotals {
  /** Empty: it is on none. */
  readonly bridge: string
  readonly tap: string
  readonly counters: TapCounters
}

export interface TapCounters {
  readonly rxBytes: bigint
  readonly txBytes: bigint
  readonly rxPackets: bigint
  readonly txPackets: bigint
  readonly rxDropped: bigint
  readonly txDropped: bigint
  readonly rxErrors: bigint
  readonly txErrors: bigint
}

const families: readonly (readonly [name: string, help: string, count: keyof TapCounters])[] = [
  ['receive_bytes', 'Bytes that the endpoint of a tap has received.', 'rxBytes'],
  ['transmit_bytes', 'Bytes that the endpoint of a tap has sent.', 'txBytes'],
  ['receive_packets', 'Packets that the endpoint of a tap has received.', 'rxPackets'],
  ['transmit_packets', 'Packets that the endpoint of a tap has sent.', 'txPackets'],
  ['receive_drops', 'Packets for the endpoint of a tap that were dropped.', 'rxDropped'],
  ['transmit_drops', 'Packets of the endpoint of a tap that were dropped.', 'txDropped'],
  ['receive_errors', 'Errors on the way to the endpoint of a tap.', 'rxErrors'],
  ['transmit_errors', 'Errors on the way from the endpoint of a tap.', 'txErrors'],
]

/**
 * The counters of all taps in Prometheus' text format, line by line. prom-client would keep a copy of every counter and
 * render them all in one go, which with thousands of taps holds up calls.
 */
export function* tapLines(taps: readonly TapTotals[]): Generator<string, void> {
  const labels: string[] = []
  for (const [short, help, count] of families) {
    const name = `ovs_bridged_tap_${short}_total`
    yield `# HELP ${name} ${help}\n# TYPE ${name} counter\n`
    for (const [index, tap] of taps.entries()) {
      labels[index] ??= `{bridge="${escaped(tap.bridge)}",tap="${escaped(tap.tap)}"} `
      yield `${name}${labels[index]}${tap.counters[count]}\n`
    }
  }
}

/** As the exposition format asks for label values. */
function escaped(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}
