import { BridgeServiceService } from '../../src/gen/ovs/bridge/v1/service.js'
import { bridgePlans } from './crash-bridges.js'
import { type Caller, nothing, type Owned, type Plan, type Planned } from './crash-owned.js'
import { tapPlans } from './crash-taps.js'
import { choicesFrom } from './random.js'
import type { Api } from './rpc.js'

const plans: Readonly<Record<string, Plan>> = { ...bridgePlans, ...tapPlans }

/** Much is made, or nobody would find any. */
const oftener = ['ensureBridge', 'create', 'create', 'createTwo', 'createHost', 'createContainer', 'adopt']

/** The next call of a caller, with the name of its kind. */
export function plan(caller: Caller, owned: Owned): Planned & { readonly kind: string } {
  for (;;) {
    const kind = caller.choices.pick([...Object.keys(plans), ...oftener])
    const planned = plans[kind]?.(caller, owned)
    if (planned !== undefined) return { ...planned, kind }
  }
}

/** Names of the calls that a script of so many makes, were all of them acknowledged. */
export async function callsMade(count: number, seed: number): Promise<Set<string>> {
  const made = new Set<string>()
  const caller: Caller = { number: 0, choices: choicesFrom(seed), netns: '/', streams: new Set() }
  const api = noting(made)
  let owned = nothing
  for (let i = 0; i < count; i++) {
    const next = plan(caller, owned)
    await next.call(api)
    owned = next.after
  }
  return made
}

/** A service that notes the calls, and answers each with what the callers read of an answer. */
function noting(made: Set<string>): Api {
  const answer = { capture: { id: 1 }, bridge: { tunnels: ['tunnel0'] }, next: () => {}, [Symbol.dispose]: () => {} }
  const calls = Object.keys(BridgeServiceService).map((name): [string, () => unknown] => [
    name,
    () => made.add(name) && answer,
  ])
  const api = Object.fromEntries(calls)
  return api as Api
}
