import { assertNever } from '../lib/assert-never.js'
import { OvsdbError, type OvsdbProblem, protocolError, readError } from './errors.js'
import { isArray, isRecord, type Json } from './json.js'
import type { NamedUuid, Uuid } from './notation.js'
import { decodeUuid } from './row.js'

export type RowRef = Uuid | NamedUuid
export type JsonRow = Readonly<Record<string, Json>>

/** RFC 7047 §5.1, `<mutation>`. */
export type Mutation = readonly [column: string, mutator: string, operand: Json]

/** One step of a transaction (RFC 7047 §5.2), its values written as the wire wants them. */
export type Operation =
  | { readonly op: 'insert'; readonly table: string; readonly row: JsonRow; readonly as: NamedUuid }
  | { readonly op: 'update'; readonly table: string; readonly target: RowRef; readonly row: JsonRow }
  | { readonly op: 'mutate'; readonly table: string; readonly target: RowRef; readonly mutations: readonly Mutation[] }
  | { readonly op: 'delete'; readonly table: string; readonly target: RowRef }
  | {
      readonly op: 'wait'
      readonly table: string
      readonly where: readonly Json[]
      readonly columns: readonly string[]
      readonly rows: readonly JsonRow[]
      readonly until: '==' | '!='
      readonly timeoutMs: number
    }
  | { readonly op: 'select'; readonly table: string; readonly target: Uuid; readonly columns: readonly string[] }
  | { readonly op: 'comment'; readonly comment: string }

/** What a step on the wire is there for: an operation itself, or a check that goes before it. */
type Step =
  | { readonly role: 'lock'; readonly lock: string }
  | { readonly role: 'guard'; readonly index: number; readonly table: string; readonly uuid: Uuid }
  | { readonly role: 'operation'; readonly index: number; readonly operation: Operation }

/** A transaction as it is sent, and what each of its steps stands for. */
export interface Plan {
  readonly steps: readonly Step[]
  readonly wire: readonly Json[]
}

/**
 * Puts the lock's `assert` first, and a `wait` for the row before each operation on a row: a server commits an
 * update of a row that is gone, with a count of 0 and all its neighbours, and nobody could take those back. Where there
 * are no neighbours, the count is enough.
 */
export function planOperations(operations: readonly Operation[], lock: string | undefined): Plan {
  const steps: Step[] = lock === undefined ? [] : [{ role: 'lock', lock }]
  const guarded = new Set<string>()
  const isAlone = operations.filter(isWrite).length === 1
  for (const [index, operation] of operations.entries()) {
    const uuid = targetOf(operation)
    if (uuid !== undefined && 'table' in operation) {
      const row = `${operation.table} ${uuid}`
      if (!guarded.has(row) && !isAlone) steps.push({ role: 'guard', index, table: operation.table, uuid })
      if (operation.op === 'delete') guarded.delete(row)
      else guarded.add(row)
    }
    steps.push({ role: 'operation', index, operation })
  }
  return { steps, wire: steps.map(encodeStep) }
}

function isWrite({ op }: Operation): boolean {
  return op === 'insert' || op === 'update' || op === 'mutate' || op === 'delete'
}

/** The row that has to be there for the operation to do anything. */
function targetOf(operation: Operation): Uuid | undefined {
  switch (operation.op) {
    case 'update':
    case 'mutate':
    case 'delete':
      return typeof operation.target === 'string' ? operation.target : undefined
    case 'insert':
    case 'wait':
    case 'select':
    case 'comment':
      return undefined
    default:
      return assertNever(operation)
  }
}

function encodeStep(step: Step): Json {
  switch (step.role) {
    case 'lock':
      return { op: 'assert', lock: step.lock }
    case 'guard':
      return {
        op: 'wait',
        table: step.table,
        where: whereRow(step.uuid),
        columns: [],
        until: '==',
        rows: [{}],
        timeout: 0,
      }
    case 'operation':
      return encodeOperation(step.operation)
    default:
      return assertNever(step)
  }
}

function encodeOperation(operation: Operation): Json {
  switch (operation.op) {
    case 'insert':
      return { op: 'insert', table: operation.table, row: operation.row, 'uuid-name': operation.as.namedUuid }
    case 'update':
      return { op: 'update', table: operation.table, where: whereRow(operation.target), row: operation.row }
    case 'mutate':
      return { op: 'mutate', table: operation.table, where: whereRow(operation.target), mutations: operation.mutations }
    case 'delete':
      return { op: 'delete', table: operation.table, where: whereRow(operation.target) }
    case 'wait': {
      const { table, where, columns, rows, until, timeoutMs } = operation
      return { op: 'wait', table, where, columns, until, rows, timeout: timeoutMs }
    }
    case 'select':
      return { op: 'select', table: operation.table, where: whereRow(operation.target), columns: operation.columns }
    case 'comment':
      return { op: 'comment', comment: operation.comment }
    default:
      return assertNever(operation)
  }
}

/** The `<where>` that one row meets. */
function whereRow(row: RowRef): readonly Json[] {
  return [['_uuid', '==', typeof row === 'string' ? ['uuid', row] : ['named-uuid', row.namedUuid]]]
}

/** What the server answered: a uuid for each insert, a row or nothing for each select. */
export interface Outcome {
  readonly inserted: ReadonlyMap<NamedUuid, Uuid>
  readonly selected: ReadonlyMap<number, unknown>
}

/**
 * Reads the answer to a `transact` (RFC 7047 §4.1.3). Throws what went wrong: then nothing was committed, unless it is
 * `protocol`, which says nothing.
 */
export function readOutcome({ steps }: Plan, result: unknown): Outcome {
  if (!isArray(result)) throw protocolError('the answer to a transaction is not an array')
  const inserted = new Map<NamedUuid, Uuid>()
  const selected = new Map<number, unknown>()
  for (const [position, answer] of result.entries()) {
    const step = steps[position]
    if (isRecord(answer) && typeof answer['error'] === 'string') throw new OvsdbError(stepProblem(step, answer))
    if (step?.role === 'operation') readAnswer(step.index, step.operation, answer, inserted, selected)
  }
  if (result.length < steps.length) throw protocolError('the answer to a transaction is too short')
  return { inserted, selected }
}

function readAnswer(
  index: number,
  operation: Operation,
  answer: unknown,
  inserted: Map<NamedUuid, Uuid>,
  selected: Map<number, unknown>,
): void {
  // A step that was not reached has null; the error follows.
  if (!isRecord(answer)) return
  const target = targetOf(operation)
  if (answer['count'] === 0 && target !== undefined && 'table' in operation)
    throw new OvsdbError(vanished({ table: operation.table, uuid: target, index }, 'a count of 0'))
  if (operation.op === 'insert') inserted.set(operation.as, decodeUuid(answer['uuid']))
  else if (operation.op === 'select') selected.set(index, isArray(answer['rows']) ? answer['rows'][0] : undefined)
}

function stepProblem(step: Step | undefined, answer: Readonly<Record<string, unknown>>): OvsdbProblem {
  const { error, details, message } = readError(answer)
  if (step === undefined) return { kind: 'rejected', message, error, details, operationIndex: undefined }
  switch (step.role) {
    case 'lock':
      return { kind: 'lock-lost', message, lock: step.lock }
    case 'guard':
      return vanished(step, message)
    case 'operation':
      return step.operation.op === 'wait' && error === 'timed out'
        ? {
            kind: 'precondition-failed',
            message: `${step.operation.table} is not as expected`,
            operationIndex: step.index,
          }
        : { kind: 'rejected', message, error, details, operationIndex: step.index }
    default:
      return assertNever(step)
  }
}

function vanished(
  { table, uuid, index }: Omit<Extract<Step, { role: 'guard' }>, 'role'>,
  message: string,
): OvsdbProblem {
  return {
    kind: 'row-vanished',
    message: `${table} has no row ${uuid} (${message})`,
    table,
    uuid,
    operationIndex: index,
  }
}
