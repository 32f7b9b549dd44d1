import type { Kernel } from '../kernel/index.js'
import type { OneAtATime } from '../lib/one-at-a-time.js'
import type { Addresses } from './addresses.js'
import type { BareTaps } from './bare-taps.js'
import type { Committer } from './commit.js'
import type { NameSeries } from './name-series.js'
import type { BridgeName, PortName } from './names.js'
import type { NetflowCollectors } from './netflow-collectors.js'
import type { Notice } from './notice.js'
import type { DatapathType, OvsClient } from './ovs.js'
import type { QosUpkeep } from './qos-upkeep.js'
import type { Recovered, Repair } from './recovered.js'
import type { DeviceRemovals } from './removals.js'
import type { TapRecords } from './tap-records.js'
import type { TunnelNames } from './tunnel-names.js'

/** One Linux host with its Open vSwitch: what every operation works on. */
export interface Host {
  /** Marks what is ours; two daemons on one Open vSwitch have different ones. */
  readonly instance: string
  readonly defaultBridge: BridgeName
  /** Type that bridges are created with. */
  readonly datapathType: DatapathType
  readonly ovsdb: OvsClient
  readonly kernel: Kernel
  readonly committer: Committer
  readonly records: TapRecords
  readonly tapNames: NameSeries
  readonly bondNames: NameSeries
  readonly tunnelNames: TunnelNames
  readonly removals: DeviceRemovals
  readonly bare: BareTaps
  /** One reaping at a time, so that no two take away the same taps. */
  readonly reapings: OneAtATime
  /** Taps that a call is making: of two that make one name, the later would find or remove the device of the other. */
  readonly inTheMaking: Set<PortName>
  /** Bridges that the database has let go of, and whose destruction is not at its end. */
  readonly demolitions: Map<BridgeName, { readonly leftInPlace: boolean }>
  readonly qos: QosUpkeep
  readonly netflows: NetflowCollectors
  readonly addresses: Addresses
  /** What was put right in this run, the latest first; the last few. */
  readonly recoveries: Recovered[]
  /** What could not be put right so far, and is tried again; without names where a kind was not gone through to its end. */
  readonly outstanding: Map<Repair, readonly string[]>
  /** Calls that failed and are being undone; the end of the daemon waits for them. */
  readonly undoing: Set<Promise<void>>
  /** The process id of ovs-vswitchd, if it answers on its own socket: asked without a write to the database. */
  readonly askVswitchd: (signal: AbortSignal) => Promise<string | undefined>
  /** Aborts when the daemon ends. What outlives its call, such as undoing it, hangs on this. */
  readonly lifetime: AbortSignal
  readonly notice: Notice
}
