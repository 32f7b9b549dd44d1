import { isRecord } from '../../src/lib/json-rpc.js'
import type { Dump } from './dump.js'

/** A row with the names of those that it refers to. */
export type Row = Readonly<Record<string, unknown>>

export function rowsOf(dump: Dump, table: string): readonly Row[] {
  return (dump[table] ?? []).filter(isRecord)
}

/** The row that a reference by name, `Port p1`, stands for. */
export function rowOf(dump: Dump, reference: unknown): Row {
  const [table = '', name] = String(reference).split(' ')
  return rowsOf(dump, table).find(row => row['name'] === name) ?? {}
}

export function portRows(
  dump: Dump,
): readonly { readonly on: string; readonly row: Row; readonly marks: Map<string, string> }[] {
  return rowsOf(dump, 'Bridge').flatMap(bridge =>
    items(bridge['ports']).map(reference => {
      const row = rowOf(dump, reference)
      return { on: textOf(bridge['name']), row, marks: mapOf(row['external_ids']) }
    }),
  )
}

export function ourMarks(marks: ReadonlyMap<string, string>): readonly (readonly [string, string])[] {
  return [...marks].filter(([key]) => key.startsWith('ovs-bridged:'))
}

/** A value of RFC 7047 §5.1 as the list that it stands for. */
export function items(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) return [value]
  const pair: readonly unknown[] = value
  return Array.isArray(pair[1]) ? pair[1] : []
}

export function textOf(value: unknown): string {
  const [text = ''] = items(value)
  return String(text)
}

export function mapOf(value: unknown): Map<string, string> {
  return new Map(
    items(value).flatMap((entry): [string, string][] =>
      Array.isArray(entry) ? [[String(entry[0]), String(entry[1])]] : [],
    ),
  )
}
