import { bridgePlans } from './crash-bridges.js'
import type { Caller, Owned, Plan, Planned } from './crash-owned.js'
import { tapPlans } from './crash-taps.js'

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
