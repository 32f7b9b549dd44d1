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
  for (const operation of operations) {
    for (const [column, value] of writtenBy(operation)) {
      const type = 'table' in operation ? tables[operation.table]?.columns[column] : undefined
      if (isStrong(type?.key) || isStrong(type?.value)) for (const name of namesIn(value)) kept.add(name)
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

/** The values that an operation puts into columns. */
function writtenBy(operation: Operation): readonly (readonly [string, Json])[] {
  switch (operation.op) {
    case 'insert':
    case 'update':
      return Object.entries(operation.row)
    case 'mutate':
      return operation.mutations.flatMap(([column, mutator, operand]) =>
        mutator === 'insert' ? [[column, operand] as const] : [],
      )
    case 'delete':
    case 'wait':
    case 'select':
    case 'comment':
      return []
    default:
      return assertNever(operation)
  }
}

/** The `<named-uuid>`s of a value. */
function* namesIn(value: Json): Generator<string> {
  if (!isList(value)) return
  const [tag, name] = value
  if (tag === 'named-uuid' && typeof name === 'string') yield name
  else for (const part of value) yield* namesIn(part)
}
