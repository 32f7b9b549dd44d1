import type { Change, Uuid } from '../ovsdb/index.js'
import type { PortName } from './names.js'
import type { OvsClient, OvsRows } from './ovs.js'
import { readTapRecord, recordedTap, type TapRecord } from './ownership-tap.js'

/** A tap's record with the row in which it stands. */
export interface KeptRecord {
  readonly uuid: Uuid
  readonly record: TapRecord
}

/** The records of all our taps by name, kept in step with the replica: QoS rows have no index of their own. */
export class TapRecords implements Disposable {
  readonly #instance: string
  readonly #byName = new Map<string, KeptRecord>()
  readonly #defunct = new Set<PortName>()
  readonly #subscription: Disposable

  constructor(ovsdb: OvsClient, instance: string) {
    this.#instance = instance
    this.#subscription = ovsdb.subscribe(changes => this.#follow(changes))
    for (const row of ovsdb.replica.rows('QoS')) this.#keep(row)
  }

  get(name: string): KeptRecord | undefined {
    return this.#byName.get(name)
  }

  /** In no order. */
  all(): Iterable<KeptRecord> {
    return this.#byName.values()
  }

  /** Names of those that wait for the reaper, in no order. */
  get defunct(): ReadonlySet<PortName> {
    return this.#defunct
  }

  get size(): number {
    return this.#byName.size
  }

  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]()
  }

  #follow(changes: readonly Change<OvsRows>[]): void {
    // What goes first: a record may be deleted and made anew under its name in one transaction.
    for (const change of changes) if (change.table === 'QoS' && change.kind !== 'insert') this.#drop(change.before)
    for (const change of changes) if (change.table === 'QoS' && change.kind !== 'delete') this.#keep(change.after)
  }

  #keep(row: OvsRows['QoS']): void {
    if (recordedTap(this.#instance, row.external_ids) === undefined) return
    const record = readTapRecord(row.external_ids)
    if (record === undefined) return
    this.#byName.set(record.name, { uuid: row._uuid, record })
    if (record.defunct) this.#defunct.add(record.name)
    else this.#defunct.delete(record.name)
  }

  #drop(row: OvsRows['QoS']): void {
    const name = recordedTap(this.#instance, row.external_ids)
    const kept = name === undefined ? undefined : this.#byName.get(name)
    if (kept?.uuid !== row._uuid) return
    this.#byName.delete(kept.record.name)
    this.#defunct.delete(kept.record.name)
  }
}
