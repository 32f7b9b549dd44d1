import type { HeardFrame } from '../capture/index.js'
import type { Change as LogChange } from '../lib/fanout.js'
import { type Moment, now } from '../lib/moment.js'
import type { Change } from '../ovsdb/index.js'
import {
  type AddressEntry,
  entryOf,
  idOf,
  isSameEntry,
  keysOf,
  linkOf,
  shown,
  type TapAddress,
} from './address-entry.js'
import { AddressHolders } from './address-holders.js'
import { AddressKeeper, type KeeperGrounds } from './address-keeper.js'
import { type AddressSource, learn, type SeenAddress, seenAfter } from './address-list.js'
import { AddressWaits, type Wanted } from './address-waits.js'
import { newChangeLog } from './change-log.js'
import { type PortName, parseEndpointIp, parseMacAddress, parseVlanId } from './names.js'
import { type OvsRows, portOfInterface } from './ovs.js'
import { recordedTap, type TapRecord } from './ownership-tap.js'

export interface AddressGrounds extends KeeperGrounds {
  readonly instance: string
  /** An address that was not seen for so long is forgotten, at the latest a tenth later. */
  readonly ttlMs: number
}

/** Since the start. */
export interface AddressCounters {
  /** Addresses that were new on their tap, or had a new MAC. */
  readonly learned: number
  /** Addresses that aged out, gave way to another, or whose tap went. */
  readonly expired: number
  /** Times that an address or MAC was found on a second tap of a VLAN. */
  readonly conflicts: number
  /** Times that an address was not taken because its tap had as many as are kept. */
  readonly overLimit: number
  /** Frames that were not looked at because too many came. */
  readonly framesLost: number
}

/** What is known of one tap. */
interface Kept {
  readonly record: TapRecord
  /** The latest seen first. */
  readonly addresses: readonly SeenAddress[]
  /** By {@link idOf} an address. */
  readonly rivals: ReadonlyMap<string, PortName>
}

/**
 * The addresses behind all taps, as their frames tell them. What an endpoint says of itself counts, whatever MAC it uses, for
 * the tap that it came through. They are kept in the taps' records, from which a start reads them back.
 */
export class Addresses implements AsyncDisposable {
  readonly log = newChangeLog<AddressEntry>()
  readonly #grounds: AddressGrounds
  readonly #keeper: AddressKeeper
  readonly #taps = new Map<string, Kept>()
  /** Keys of the log that a tap has entries under. */
  readonly #shown = new Map<string, readonly string[]>()
  readonly #waits = new AddressWaits()
  readonly #holders = new AddressHolders()
  readonly #listeners = new Set<(taps: readonly string[]) => void>()
  readonly #following: Disposable
  readonly #sweeping: NodeJS.Timeout
  #settling: NodeJS.Timeout | undefined
  #counters: AddressCounters = { learned: 0, expired: 0, conflicts: 0, overLimit: 0, framesLost: 0 }

  /** `grounds.records` must follow the replica already. */
  constructor(grounds: AddressGrounds) {
    this.#grounds = grounds
    this.#keeper = new AddressKeeper(grounds, tap => this.#taps.get(tap)?.addresses ?? [])
    this.#following = grounds.ovsdb.subscribe(changes => this.#follow(changes))
    this.#sync(Array.from(grounds.records.all(), ({ record }) => record.name))
    this.#sweeping = setInterval(() => this.#sweep(), Math.min(Math.max(grounds.ttlMs / 60, 50), 30_000)).unref()
  }

  /** Writes down what is not yet kept. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#following[Symbol.dispose]()
    clearInterval(this.#sweeping)
    clearTimeout(this.#settling)
    await this.#keeper[Symbol.asyncDispose]()
  }

  /** With how many addresses are known. */
  get readings(): AddressCounters & { readonly known: number } {
    let known = 0
    for (const { addresses } of this.#taps.values()) known += addresses.length
    return { ...this.#counters, known }
  }

  /** Tells of taps whose addresses have changed. */
  subscribe(listener: (taps: readonly string[]) => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) }
  }

  /** Those of a tap, the latest seen first. */
  of(record: TapRecord): readonly TapAddress[] {
    return this.#taps.get(record.name)?.addresses.map(address => shown(record, address)) ?? []
  }

  /** Takes in frames in the order in which they passed, and that `lost` more could not be looked at. */
  hear(frames: readonly HeardFrame[], lost: number): void {
    const at = now()
    const changed = frames.flatMap(frame => this.#hearFrame(frame, at) ?? [])
    if (lost > 0) this.#count('framesLost', lost)
    this.#show(new Set(changed))
  }

  /** The name of the tap whose addresses it has changed. */
  #hearFrame({ device, outgoing, vlan, message }: HeardFrame, at: Moment): string | undefined {
    const record = this.#taps.get(device)?.record
    const tag = vlan === undefined ? undefined : parseVlanId(vlan)
    const mac = parseMacAddress(message.mac)
    if (record === undefined || record.bridge === undefined || tag?.ok === false || !mac.ok) return undefined
    const from = { tap: device, tag: tag?.value, mac: mac.value }
    // What the host sends into its own tap is what this endpoint says.
    const isSaid = outgoing === (record.backing.kind === 'host')
    if (message.kind === 'request') {
      if (isSaid) this.#waits.request(device, mac.value, message.transaction, at.steadyMs)
      return undefined
    }
    const ip = parseEndpointIp(message.ip)
    if (!ip.ok) return undefined
    const wanted: Wanted = { ...from, ip: ip.value }
    if (message.kind === 'lease') {
      const isIts =
        record.mac === mac.value || this.#waits.isAnswer(device, mac.value, message.transaction, at.steadyMs)
      return !isSaid && isIts ? this.#claim(record, wanted, 'dhcp', at.epochMs) : undefined
    }
    const link = linkOf(record, from.tag)
    this.#waits.object(link, ip.value, mac.value)
    if (!isSaid) return undefined
    if (message.kind === 'claim') return this.#claim(record, wanted, message.protocol, at.epochMs)
    this.#waits.probe(link, wanted, at.steadyMs)
    this.#settling ??= setTimeout(() => this.#settle(), settleMs).unref()
    return undefined
  }

  /** Probes that nobody has objected to. */
  #settle(): void {
    const at = now()
    const granted = this.#waits.takeDue(at.steadyMs)
    const changed = granted.flatMap(wanted => {
      const record = this.#taps.get(wanted.tap)?.record
      return (record?.bridge !== undefined && this.#claim(record, wanted, 'ndp', at.epochMs)) || []
    })
    const { nextDueMs } = this.#waits
    this.#settling =
      nextDueMs === undefined
        ? undefined
        : setTimeout(() => this.#settle(), Math.max(nextDueMs - at.steadyMs, settleMs)).unref()
    this.#show(new Set(changed))
  }

  /** The tap, if anything is to be told of it. */
  #claim(record: TapRecord, wanted: Wanted, source: AddressSource, atMs: number): string | undefined {
    const { name } = record
    const kept = this.#taps.get(name)
    if (kept === undefined) return undefined
    const { ip, mac, tag } = wanted
    const learned = learn(kept.addresses, { ip, mac, tag, source, lastSeenMs: atMs }, this.#stepMs)
    if (learned.outcome === 'full') {
      this.#count('overLimit', 1)
      return undefined
    }
    this.#waits.settle(linkOf(record, tag), wanted)
    const rivals = this.#rivalsAfter(kept, wanted)
    if (learned.outcome === 'known' && rivals === kept.rivals) return undefined
    const addresses = learned.outcome === 'known' ? kept.addresses : learned.addresses
    this.#taps.set(name, { record, addresses, rivals: rivalsOf(rivals, addresses) })
    if (learned.outcome === 'refreshed') this.#keeper.refresh(name, this.#stepMs)
    else if (learned.outcome !== 'known') {
      this.#count('learned', 1)
      if (learned.outcome === 'replaced') this.#count('expired', 1)
      this.#keeper.keep(name)
    }
    // Before the next frame of the batch, which may be the rival's.
    this.#holders.set(
      name,
      addresses.flatMap(address => keysOf(record, address)),
    )
    return name
  }

  /** The tap's rivals once an address was seen; the same object if they have not changed. */
  #rivalsAfter({ record, rivals }: Kept, wanted: Wanted): ReadonlyMap<string, PortName> {
    const found = this.#holders.rivalOf(record.name, keysOf(record, wanted), other => this.#areOne(record.name, other))
    const rival = found === undefined ? undefined : this.#taps.get(found)?.record.name
    const id = idOf(wanted)
    if (rivals.get(id) === rival) return rivals
    const after = new Map(rivals)
    if (rival === undefined) after.delete(id)
    else {
      after.set(id, rival)
      this.#count('conflicts', 1)
    }
    return after
  }

  /** Members of a bond are one station. */
  #areOne(tap: string, other: string): boolean {
    const { replica } = this.#grounds.ovsdb
    const port = portOfInterface(replica, tap)
    return port !== undefined && port === portOfInterface(replica, other)
  }

  get #stepMs(): number {
    return Math.min(this.#grounds.ttlMs / 10, 60_000)
  }

  /** Since when an address must have been seen: no earlier than the ttl ago, with the step that its time may be behind. */
  get #sinceMs(): number {
    return Date.now() - this.#grounds.ttlMs - this.#stepMs
  }

  #sweep(): void {
    const changed: string[] = []
    for (const [name, kept] of this.#taps) {
      const addresses = seenAfter(kept.addresses, this.#sinceMs)
      if (addresses === kept.addresses) continue
      this.#count('expired', kept.addresses.length - addresses.length)
      this.#taps.set(name, { ...kept, addresses, rivals: rivalsOf(kept.rivals, addresses) })
      this.#keeper.keep(name)
      changed.push(name)
    }
    this.#show(new Set(changed))
  }

  #follow(changes: readonly Change<OvsRows>[]): void {
    const names = new Set<string>()
    const note = ({ external_ids }: OvsRows['QoS']) => {
      const name = recordedTap(this.#grounds.instance, external_ids)
      if (name !== undefined) names.add(name)
    }
    for (const change of changes) {
      if (change.table === 'QoS' && change.kind !== 'insert') note(change.before)
      if (change.table === 'QoS' && change.kind !== 'delete') note(change.after)
    }
    this.#sync([...names])
  }

  /** Has the taps as their records say. A tap that was made anew begins with what its own record has. */
  #sync(names: readonly string[]): void {
    for (const name of names) {
      const kept = this.#taps.get(name)
      const record = this.#grounds.records.get(name)?.record
      const isSame = kept !== undefined && record?.id === kept.record.id && !record.defunct
      if (isSame) this.#taps.set(name, { ...kept, record })
      else {
        if (kept !== undefined) this.#count('expired', kept.addresses.length)
        this.#waits.drop(name)
        this.#keeper.forget(name)
        if (record === undefined || record.defunct) this.#taps.delete(name)
        else this.#taps.set(name, { record, addresses: seenAfter(record.addresses, this.#sinceMs), rivals: new Map() })
      }
    }
    this.#show(new Set(names))
  }

  /** Brings the log up to date, and tells the listeners. */
  #show(names: ReadonlySet<string>): void {
    const changes: LogChange<AddressEntry>[] = []
    const changed: string[] = []
    for (const name of names) {
      const found = this.#changesOf(name)
      if (found.length === 0) continue
      changes.push(...found)
      changed.push(name)
    }
    if (changed.length === 0) return
    this.log.publish(changes)
    for (const listener of this.#listeners) listener(changed)
  }

  #changesOf(name: string): LogChange<AddressEntry>[] {
    const kept = this.#taps.get(name)
    const entries = new Map(
      kept?.addresses.map(address => {
        const id = idOf(address)
        return [`${name} ${id}`, entryOf(kept.record, address, kept.rivals.get(id))]
      }),
    )
    this.#holders.set(name, kept?.addresses.flatMap(address => keysOf(kept.record, address)) ?? [])
    const changes: LogChange<AddressEntry>[] = []
    for (const key of this.#shown.get(name) ?? []) {
      if (!entries.has(key)) changes.push({ key, before: this.log.get(key), after: undefined })
    }
    for (const [key, after] of entries) {
      const before = this.log.get(key)
      if (before === undefined || !isSameEntry(before, after)) changes.push({ key, before, after })
    }
    if (entries.size === 0) this.#shown.delete(name)
    else this.#shown.set(name, [...entries.keys()])
    return changes
  }

  #count(which: keyof AddressCounters, by: number): void {
    this.#counters = { ...this.#counters, [which]: this.#counters[which] + by }
  }
}

/** Probes are looked at this often at most. */
const settleMs = 100

/** Those of addresses that are still there. */
function rivalsOf(
  rivals: ReadonlyMap<string, PortName>,
  addresses: readonly SeenAddress[],
): ReadonlyMap<string, PortName> {
  if (rivals.size === 0) return rivals
  const ids = new Set(addresses.map(idOf))
  return new Map([...rivals].filter(([id]) => ids.has(id)))
}
