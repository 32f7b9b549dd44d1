import type { CapturePorts } from './bridge/capture-port.js'
import type { Host } from './bridge/host.js'
import { markedDevices, recover } from './bridge/reconcile.js'
import { type Occasion, repairs } from './bridge/recovered.js'
import { abortScope, raceAbort } from './lib/abort.js'
import type { Tally } from './metrics/index.js'

/** Puts right what a crash has left: at the start, whenever the database or ovs-vswitchd comes back, and again until it is. */
export interface Recovery {
  /** To be called when ovs-vswitchd answers again, or another one does. */
  vswitchdBack(): void
}

/** A start waits for so long; what takes more goes on while calls are served. */
const startWithinMs = 5_000

/** What a stuck ovs-vswitchd keeps from being finished must not hold up the rest. */
const kindWithinMs = 30_000

/** What could not be put right is tried again in a second, then in twice the time after each failure. */
const leastRetryMs = 1_000
const mostRetryMs = 60_000

/** Resolves when what the last run left is put right, or has begun to be and takes its time. */
export async function keepRecovered(
  host: Host,
  capturePorts: CapturePorts,
  tally: Tally,
  withinMs = kindWithinMs,
): Promise<Recovery> {
  let marked = await markedDevices(host, { signal: host.lifetime, caller: 'recover' })
  let turn: Promise<unknown> = Promise.resolve()
  let retry: NodeJS.Timeout | undefined
  let retryMs = leastRetryMs

  const run = (occasion: Occasion) => {
    turn = turn.then(async () => {
      if (host.lifetime.aborted || host.ovsdb.status.state !== 'ready') return
      clearTimeout(retry)
      const kinds = occasion === 'retry' ? repairs.filter(kind => host.outstanding.has(kind)) : repairs
      if (kinds.length === 0) return
      const { repaired, failed } = await recover(host, occasion, kinds, { capturePorts, marked }, withinMs)
      if (!host.outstanding.has('orphan_device')) marked = []
      tally.reconciled(occasion, failed.length === 0 ? 'done' : 'failed')
      for (const [what, names] of repaired) tally.repaired(what, names.length)
      if (repaired.size > 0) host.notice('info', 'put right what was not as it should be', told(occasion, repaired))
      retryMs = occasion === 'retry' ? Math.min(retryMs * 2, mostRetryMs) : leastRetryMs
      if (failed.length > 0 && !host.lifetime.aborted) retry = setTimeout(() => void run('retry'), retryMs)
    })
    return turn
  }
  let occasion: Occasion = 'start'
  const onReady = () => {
    const ran = run(occasion)
    occasion = 'ovsdb_back'
    return ran
  }
  const isReady = host.ovsdb.status.state === 'ready'
  const first = isReady ? onReady() : Promise.resolve()
  const following = host.ovsdb.onStatus(({ state }) => {
    if (state === 'ready') void onReady()
  })
  const end = () => {
    following[Symbol.dispose]()
    clearTimeout(retry)
  }
  host.lifetime.addEventListener('abort', end, { once: true })
  using scope = abortScope({ deadline: Date.now() + startWithinMs, parents: [host.lifetime] })
  await raceAbort(first, scope.signal).catch(() => undefined)
  return { vswitchdBack: () => void run('vswitchd_restart') }
}

function told(occasion: Occasion, repaired: ReadonlyMap<string, readonly string[]>): Record<string, unknown> {
  return { occasion, ...Object.fromEntries(repaired) }
}
