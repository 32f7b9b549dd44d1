import { assertNever } from '../lib/assert-never.js'
import { refusal } from './checking.js'
import { isList, type Json } from './json.js'
import type { Operation } from './operation.js'
import type { BaseType, DatabaseSchema } from './schema.js'

/**
 * Throws `invalid-value` for an inserted row that is no root and that nothing in the transaction refers to: a server answers
 * with its uuid and lets it vanish at the commit (RFC 7047 §3.2, `isRoot`).
 */
export function refuseOrphans({ tables }: DatabaseSchema, operations: readonly Operation[]): void {
  const mayVanish = (table: string) => tables[table]?.isRoot === false
  if (!operations.some(operation => operation.op === 'insert' && mayVanish(operation.table))) return
  const kept = new Set<string>()
  const keep = (table: string, column: string, value: Json) => {
    const type = tables[table]?.columns[column]
    if (isStrong(type?.key) || isStrong(type?.value)) addNames(kept, value)
  }
  for (const operation of operations) {
    switch (operation.op) {
      case 'insert':
      case 'update':
        for (const column in operation.row) keep(operation.table, column, operation.row[column] ?? null)
        break
      case 'mutate':
        for (const [column, mutator, operand] of operation.mutations) {
          if (mutator === 'insert') keep(operation.table, column, operand)
        }
        break
      case 'delete':
      case 'wait':
      case 'select':
      case 'comment':
        break
      default:
        assertNever(operation)
    }
  }
  for (const operation of operations) {
    if (operation.op === 'insert' && mayVanish(operation.table) && !kept.has(operation.as.namedUuid))
      throw refusal({ table: operation.table, column: '_uuid' }, 'is of a row that nothing refers to: it would vanish')
  }
}

function isStrong(type: BaseType | undefined): boolean {
  return type?.refType === 'strong'
}

/** Adds the `<named-uuid>`s of a value. */
function addNames(names: Set<string>, value: Json): void {
  if (!isList(value)) return
  const [tag, name] = value
  if (tag === 'named-uuid' && typeof name === 'string') names.add(name)
  else for (const part of value) addNames(names, part)
}
