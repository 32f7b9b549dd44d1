import { type Counters, noCounters } from './counters.js'

/** What the former devices of a tap had counted, as its record keeps it for as long as it has the present one. */
export interface CountedBefore {
  /** Of the present device; with any other this means nothing. */
  readonly ifindex: number
  readonly counters: Counters
}

const order = [
  'rxBytes',
  'txBytes',
  'rxPackets',
  'txPackets',
  'rxDropped',
  'txDropped',
  'rxErrors',
  'txErrors',
] as const satisfies readonly (keyof Counters)[]

/** `ifindex rx_bytes tx_bytes rx_packets …`, as docs/external-ids.md has it. */
export function formatCounted({ ifindex, counters }: CountedBefore): string {
  return [ifindex, ...order.map(key => counters[key])].join(' ')
}

/** undefined when it is not as {@link formatCounted} writes it. */
export function parseCounted(text: string): CountedBefore | undefined {
  if (!/^\d{1,10}( \d{1,20}){8}$/.test(text)) return undefined
  const [ifindex, ...values] = text.split(' ')
  const counters = { ...noCounters, ...Object.fromEntries(order.map((key, i) => [key, BigInt(values[i] ?? 0)])) }
  return { ifindex: Number(ifindex), counters }
}
