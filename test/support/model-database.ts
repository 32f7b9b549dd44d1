import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { isArray, isRecord } from '../../src/ovsdb/json.js'
import { isUuid, type Uuid } from '../../src/ovsdb/notation.js'
import { type DatabaseSchema, parseSchema } from '../../src/ovsdb/schema.js'

/** A row of {@link modelSchema}, of each kind of column one. */
export interface NodeRow {
  readonly _uuid: Uuid
  readonly name: string
  readonly value: number | bigint
  readonly parent: Uuid | undefined
  readonly tags: readonly string[]
  readonly ids: ReadonlyMap<string, string>
}
export interface ModelTables {
  readonly Node: NodeRow
}

const many = { min: 0, max: 'unlimited' }
export const modelSchemaJson = {
  name: 'Model',
  version: '1.0.0',
  tables: {
    Node: {
      columns: {
        name: { type: 'string' },
        value: { type: 'integer' },
        parent: { type: { key: 'uuid', min: 0 } },
        tags: { type: { key: 'string', ...many } },
        ids: { type: { key: 'string', value: 'string', ...many } },
      },
      indexes: [['name']],
    },
  },
}
export const modelSchema: DatabaseSchema<ModelTables> = parseSchema(modelSchemaJson)
export const modelColumns = { Node: ['name', 'value', 'parent', 'tags', 'ids'] } as const

interface StoredRow {
  name: string
  value: number
  parent: string | undefined
  tags: ReadonlySet<string>
  ids: ReadonlyMap<string, string>
}
type Rows = ReadonlyMap<string, StoredRow>

/** The table updates of an `update3`. */
export type TableUpdates = Readonly<Record<string, Readonly<Record<string, object>>>>

/**
 * A database of one table in memory, written from RFC 7047 alone, without any of the client's code for values: what the
 * client's replica is compared with.
 */
export class ModelDatabase {
  #rows: Rows = new Map()

  /** The rows by uuid, as they would stand in a replica. */
  get contents(): ReadonlyMap<string, object> {
    return new Map([...this.#rows].map(([uuid, row]) => [uuid, { _uuid: uuid, ...row }]))
  }

  get names(): readonly string[] {
    return [...this.#rows.values()].map(row => row.name)
  }

  dump(): TableUpdates {
    return updatesOf([...this.#rows].map(([uuid, row]) => [uuid, { initial: whole(row) }]))
  }

  /** RFC 7047 §4.1.3: a result for each operation, and what monitors are told. `ownsLock` answers `assert`. */
  transact(operations: readonly unknown[], ownsLock: (lock: unknown) => boolean) {
    const rows = new Map([...this.#rows].map(([uuid, row]) => [uuid, { ...row }]))
    const named = new Map<unknown, string>()
    const results: unknown[] = []
    const fail = (error: string) => {
      results.push({ error })
      while (results.length < operations.length) results.push(null)
      return { results, updates: {} }
    }
    for (const operation of operations) {
      if (!isRecord(operation)) return fail('syntax error')
      const { op, where, row = {}, mutations } = operation
      const uuid = uuidIn(where, named)
      const target = uuid === undefined ? undefined : rows.get(uuid)
      if (op === 'assert') {
        if (!ownsLock(operation['lock'])) return fail('not owner')
        results.push({})
      } else if (op === 'wait') {
        if (target === undefined) return fail('timed out')
        results.push({})
      } else if (op === 'insert') {
        const inserted = randomUUID()
        named.set(operation['uuid-name'], inserted)
        const fresh = { name: '', value: 0, parent: undefined, tags: new Set<string>(), ids: new Map<string, string>() }
        rows.set(inserted, assigned(fresh, row, named))
        results.push({ uuid: ['uuid', inserted] })
      } else {
        if (uuid !== undefined && target !== undefined) {
          if (op === 'delete') rows.delete(uuid)
          if (op === 'update') rows.set(uuid, assigned(target, row, named))
          if (op === 'mutate') rows.set(uuid, mutated(target, mutations))
        }
        results.push(op === 'comment' ? {} : { count: Number(target !== undefined) })
      }
    }
    const names = [...rows.values()].map(row => row.name)
    if (new Set(names).size < names.length) {
      results.push({ error: 'constraint violation', details: 'two rows of one name' })
      return { results, updates: {} }
    }
    const updates = differences(this.#rows, rows)
    this.#rows = rows
    return { results, updates }
  }
}

function uuidIn(where: unknown, named: ReadonlyMap<unknown, string>): string | undefined {
  const [condition] = isArray(where) ? where : []
  const reference = isArray(condition) ? condition[2] : undefined
  return referred(reference, named)
}

function referred(reference: unknown, named: ReadonlyMap<unknown, string>): string | undefined {
  if (!isArray(reference)) return undefined
  const [tag, name] = reference
  return tag === 'named-uuid' ? named.get(name) : isUuid(name) ? name : undefined
}

function assigned(before: StoredRow, row: unknown, named: ReadonlyMap<unknown, string>): StoredRow {
  const after = { ...before }
  if (!isRecord(row)) return after
  const { name, value, parent, tags, ids } = row
  if (typeof name === 'string') after.name = name
  if (value !== undefined) after.value = Number(value)
  if (parent !== undefined) after.parent = referred(parent, named)
  if (tags !== undefined) after.tags = new Set(elements(tags).map(String))
  if (ids !== undefined) after.ids = new Map(pairs(ids))
  return after
}

function mutated(before: StoredRow, mutations: unknown): StoredRow {
  const after = { ...before }
  for (const mutation of isArray(mutations) ? mutations : []) {
    const [column, mutator, operand] = isArray(mutation) ? mutation : []
    if (column === 'value' && mutator === '+=') after.value += Number(operand)
    if (column === 'tags') {
      const changed = elements(operand).map(String)
      const kept = [...after.tags].filter(tag => mutator === 'insert' || !changed.includes(tag))
      after.tags = new Set([...kept, ...(mutator === 'insert' ? changed : [])])
    }
    if (column === 'ids') {
      const ids = new Map(after.ids)
      // A map's `delete` takes a set of keys or a map of pairs; its `insert` leaves what is there.
      if (mutator === 'delete') for (const key of elements(operand)) ids.delete(String(key))
      else for (const [key, value] of pairs(operand)) if (!ids.has(key)) ids.set(key, value)
      after.ids = ids
    }
  }
  return after
}

function elements(set: unknown): readonly unknown[] {
  return isArray(set) && set[0] === 'set' && isArray(set[1]) ? set[1] : [set]
}

function pairs(map: unknown): [string, string][] {
  const all = isArray(map) && isArray(map[1]) ? map[1] : []
  return all.map(pair => (isArray(pair) ? [String(pair[0]), String(pair[1])] : ['', '']))
}

function reference(uuid: string | undefined): unknown {
  return uuid === undefined ? ['set', []] : ['uuid', uuid]
}

/** A `<row>` without the columns that have their defaults. */
function whole({ name, value, parent, tags, ids }: StoredRow): object {
  return {
    ...(name === '' ? {} : { name }),
    ...(value === 0 ? {} : { value }),
    ...(parent === undefined ? {} : { parent: reference(parent) }),
    ...(tags.size === 0 ? {} : { tags: ['set', [...tags]] }),
    ...(ids.size === 0 ? {} : { ids: ['map', [...ids]] }),
  }
}

/** ovsdb-server(7), "Update2 Notification". */
function differences(before: Rows, after: Rows): TableUpdates {
  const changes: [string, object][] = []
  for (const [uuid, row] of after) {
    const former = before.get(uuid)
    if (former === undefined) changes.push([uuid, { insert: whole(row) }])
    else if (!isDeepStrictEqual(former, row)) changes.push([uuid, { modify: difference(former, row) }])
  }
  for (const uuid of before.keys()) if (!after.has(uuid)) changes.push([uuid, { delete: null }])
  return updatesOf(changes)
}

function difference(a: StoredRow, b: StoredRow): object {
  const tags = [...a.tags].filter(tag => !b.tags.has(tag)).concat([...b.tags].filter(tag => !a.tags.has(tag)))
  const gone = [...a.ids].filter(([key]) => !b.ids.has(key))
  const ids = gone.concat([...b.ids].filter(([key, value]) => a.ids.get(key) !== value))
  return {
    ...(a.name === b.name ? {} : { name: b.name }),
    ...(a.value === b.value ? {} : { value: b.value }),
    ...(a.parent === b.parent ? {} : { parent: reference(b.parent) }),
    ...(tags.length === 0 ? {} : { tags: ['set', tags] }),
    ...(ids.length === 0 ? {} : { ids: ['map', ids] }),
  }
}

function updatesOf(changes: readonly (readonly [string, object])[]): TableUpdates {
  return changes.length === 0 ? {} : { Node: Object.fromEntries(changes) }
}
