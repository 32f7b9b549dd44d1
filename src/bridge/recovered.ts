/** When what Open vSwitch and the kernel have is compared with what they should have. */
export type Occasion = 'start' | 'ovsdb_back' | 'vswitchd_restart' | 'retry'

/** What is found not to be as it should, and is put right. */
export const repairs = [
  'netflow',
  'orphan_device',
  'defunct_tap',
  'lost_row',
  'tap_device',
  'bond_vlan',
  'half_open_port',
  'host_tap',
  'bridge_device',
  'capture_port',
  'tap_qos',
] as const

export type Repair = (typeof repairs)[number]

/** What an attempt at repairs of one kind came to: names. */
export interface Attempt {
  readonly repaired: readonly string[]
  /** What could not be put right, and is to be tried again. */
  readonly left: readonly string[]
}

/** What one comparison has put right. */
export interface Recovered {
  readonly occasion: Occasion
  readonly atMs: number
  /** Names, of each kind that there was something of. */
  readonly repaired: ReadonlyMap<Repair, readonly string[]>
  /** Kinds that could not be gone through to their end. */
  readonly failed: readonly Repair[]
}
