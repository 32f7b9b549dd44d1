import assert from 'node:assert/strict'
import type { Dump } from './dump.js'
import { listLinks } from './links.js'
import { type Api, RpcError } from './rpc.js'
import type { Testbed } from './testbed.js'

/** The error that a call is refused with; throws when it was not refused. */
export async function refusalOf(what: string, call: Promise<unknown>): Promise<RpcError> {
  try {
    await call
  } catch (error) {
    if (error instanceof RpcError) return error
    throw error
  }
  throw new Error(`${what} was not refused`)
}

/** All that lasts of a test's world, for a comparison of before and after. */
export interface State {
  readonly database: Dump
  /** Index and name of each device. */
  readonly links: readonly string[]
}

export async function stateOf(bed: Testbed): Promise<State> {
  return { database: await bed.ovs.dump(), links: listLinks().map(({ index, name }) => `${index} ${name}`) }
}

/** A call that must be refused, and how. */
export interface Refusal {
  readonly call: (api: Api) => Promise<unknown>
  readonly code: string
  readonly reason: string
  /** The fields that must be named, and no others. */
  readonly fields?: readonly string[]
}

export function invalid(call: Refusal['call'], ...fields: readonly string[]): Refusal {
  return { call, code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD', fields }
}

/** Makes the calls one after the other: each is refused as it must be, and leaves all as it was. */
export async function assertRefused(
  bed: Testbed & { readonly api: Api },
  refusals: Readonly<Record<string, Refusal>>,
): Promise<void> {
  const before = await stateOf(bed)
  for (const [what, { call, code, reason, fields }] of Object.entries(refusals)) {
    const error = await refusalOf(what, call(bed.api))
    assert.deepEqual([error.code, error.reason], [code, reason], `${what}: ${error.message}`)
    if (fields !== undefined)
      assert.deepEqual(Object.keys(error.violations).sort(), [...fields].sort(), `${what}: ${error.message}`)
    assert.deepEqual(await stateOf(bed), before, `${what} left something`)
  }
}
