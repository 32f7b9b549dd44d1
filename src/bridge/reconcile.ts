import type { Call } from './call.js'
import type { Host } from './host.js'
import { deviceAlias } from './ownership.js'
import { reapTaps } from './reap.js'

/** What a daemon that was killed had left. */
export interface Reconciled {
  /** Defunct taps whose removal was finished. */
  readonly reaped: readonly string[]
  /** Devices with our mark that no tap had: made just before a crash. */
  readonly orphans: readonly string[]
}

/** Finishes what was being destroyed and undoes what was being made when the last daemon of this instance ended. */
export async function reconcile(host: Host, call: Call): Promise<Reconciled> {
  const reaped = await reapTaps(host, call)
  const alias = deviceAlias(host.instance)
  const links = await host.kernel.listLinks(call.signal)
  const orphans = links.filter(link => {
    const isOurMake = link.tun?.persistent === true || link.kind === 'veth'
    return isOurMake && link.alias === alias && host.records.get(link.name) === undefined
  })
  const { deleted } = await host.removals.remove(orphans)
  return { reaped, orphans: deleted }
}
