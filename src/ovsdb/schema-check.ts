import { OvsdbError } from './errors.js'
import { shapeOf } from './notation.js'
import type { ColumnSchema, DatabaseSchema } from './schema.js'

type ColumnsByTable = ReadonlyMap<string, readonly string[]>

/** The part of `wanted` that the server has, and what it lacks, as `Table.column`. */
export interface Shared {
  readonly columns: ColumnsByTable
  readonly lacking: readonly string[]
}

/**
 * Holds the schema that a program was built with beside the server's. What the server has beyond it does no harm. What it
 * lacks is left out, unless it is `required`: then this throws `schema-mismatch`, as it does for a column whose values would
 * be read wrongly.
 */
export function compareSchemas(
  ours: DatabaseSchema,
  theirs: DatabaseSchema,
  wanted: ColumnsByTable,
  required: ColumnsByTable,
): Shared {
  const has = (table: string, column: string) => theirs.tables[table]?.columns[column] !== undefined
  const missing = listed(required).filter(({ table, column }) => !has(table, column))
  if (missing.length > 0) throw mismatch(theirs, 'lacks', missing.map(inWords))
  const isOther = (table: string, column: string) =>
    !isReadAlike(columnOf(ours, table, column), columnOf(theirs, table, column))
  const other = listed(wanted).filter(({ table, column }) => has(table, column) && isOther(table, column))
  if (other.length > 0) throw mismatch(theirs, 'has, of another type,', other.map(inWords))
  const present = [...wanted].filter(([table]) => theirs.tables[table] !== undefined)
  return {
    columns: new Map(present.map(([table, columns]) => [table, columns.filter(column => has(table, column))])),
    lacking: listed(wanted)
      .filter(({ table, column }) => !has(table, column))
      .map(inWords),
  }
}

interface Named {
  readonly table: string
  readonly column: string
}

function listed(columns: ColumnsByTable): Named[] {
  return [...columns].flatMap(([table, names]) => names.map(column => ({ table, column })))
}

function inWords({ table, column }: Named): string {
  return `${table}.${column}`
}

function columnOf({ tables }: DatabaseSchema, table: string, column: string): ColumnSchema | undefined {
  return tables[table]?.columns[column]
}

/** Whether each value of `theirs` could be one of `ours`, and differences to it are told alike. */
function isReadAlike(ours: ColumnSchema | undefined, theirs: ColumnSchema | undefined): boolean {
  if (ours === undefined || theirs === undefined) return false
  const hasSameTypes = ours.key.type === theirs.key.type && ours.value?.type === theirs.value?.type
  const isToldAlike = ours.max > 1 === theirs.max > 1
  const mayBeMissing = shapeOf(ours) === 'scalar' && theirs.min === 0
  return hasSameTypes && isToldAlike && !mayBeMissing
}

function mismatch({ name, version }: DatabaseSchema, how: string, columns: readonly string[]): OvsdbError {
  const message = `the server's ${name}, version ${version}, ${how} ${columns.join(', ')}`
  return new OvsdbError({ kind: 'schema-mismatch', message, columns })
}
