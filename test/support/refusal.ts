import type { Dump } from './dump.js'
import { listLinks } from './links.js'
import { RpcError } from './rpc.js'
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
