/** Of one interface; from its endpoint's side, received is what came out of the switch. */
export interface Counters {
  readonly rxBytes: bigint
  readonly txBytes: bigint
  readonly rxPackets: bigint
  readonly txPackets: bigint
  readonly rxDropped: bigint
  readonly txDropped: bigint
  readonly rxErrors: bigint
  readonly txErrors: bigint
}

export const noCounters: Counters = {
  rxBytes: 0n,
  txBytes: 0n,
  rxPackets: 0n,
  txPackets: 0n,
  rxDropped: 0n,
  txDropped: 0n,
  rxErrors: 0n,
  txErrors: 0n,
}

/** Who has counted: ovs-vswitchd (ovs-vswitchd.conf.db(5), Interface.statistics) or the kernel (`rtnl_link_stats64`). */
export type CountedBy = 'vswitchd' | 'kernel'

/**
 * From whose side the counters of an interface are. A device that is plugged into the switch (tuntap, veth, hardware) is
 * received from by host and switch alike. A device that Open vSwitch makes for an internal port is the host's, and the
 * kernel counts it from there; so does the kernel's datapath, while the userspace one, which holds the other end, counts
 * from the switch's side.
 */
export function countedFrom(by: CountedBy, interfaceType: string, datapathType: () => string): 'switch' | 'endpoint' {
  const isHosts = interfaceType === 'internal' || (by === 'kernel' && interfaceType === 'tap')
  return isHosts && (by === 'kernel' || datapathType() === 'system') ? 'endpoint' : 'switch'
}

/** The counters as the endpoint would have counted them. */
export function seenByEndpoint(counters: Counters, from: 'switch' | 'endpoint'): Counters {
  if (from === 'endpoint') return counters
  return {
    rxBytes: counters.txBytes,
    txBytes: counters.rxBytes,
    rxPackets: counters.txPackets,
    txPackets: counters.rxPackets,
    rxDropped: counters.txDropped,
    txDropped: counters.rxDropped,
    rxErrors: counters.txErrors,
    txErrors: counters.rxErrors,
  }
}

/** Reads Interface.statistics; undefined before ovs-vswitchd has written them. */
export function readStatistics(statistics: ReadonlyMap<string, number | bigint>): Counters | undefined {
  if (!statistics.has('rx_bytes') && !statistics.has('tx_bytes')) return undefined
  const of = (key: string) => BigInt(statistics.get(key) ?? 0)
  return {
    rxBytes: of('rx_bytes'),
    txBytes: of('tx_bytes'),
    rxPackets: of('rx_packets'),
    txPackets: of('tx_packets'),
    rxDropped: of('rx_dropped'),
    txDropped: of('tx_dropped'),
    rxErrors: of('rx_errors'),
    txErrors: of('tx_errors'),
  }
}

export function sum(a: Counters, b: Counters): Counters {
  return combine(a, b, (x, y) => x + y)
}

/** Each counter's greater value. */
export function highest(a: Counters, b: Counters): Counters {
  return combine(a, b, (x, y) => (x > y ? x : y))
}

/** Whether what only grows has shrunk. */
export function hasShrunk(before: Counters, after: Counters): boolean {
  return (
    after.rxBytes < before.rxBytes ||
    after.txBytes < before.txBytes ||
    after.rxPackets < before.rxPackets ||
    after.txPackets < before.txPackets
  )
}

function combine(a: Counters, b: Counters, of: (x: bigint, y: bigint) => bigint): Counters {
  return {
    rxBytes: of(a.rxBytes, b.rxBytes),
    txBytes: of(a.txBytes, b.txBytes),
    rxPackets: of(a.rxPackets, b.rxPackets),
    txPackets: of(a.txPackets, b.txPackets),
    rxDropped: of(a.rxDropped, b.rxDropped),
    txDropped: of(a.txDropped, b.txDropped),
    rxErrors: of(a.rxErrors, b.rxErrors),
    txErrors: of(a.txErrors, b.txErrors),
  }
}
