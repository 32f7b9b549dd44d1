import type { CapturePorts } from './bridge/capture-port.js'
import type { Host } from './bridge/host.js'
import { markedDevices, type Occasion, recover } from './bridge/reconcile.js'
import { abortScope, raceAbort } from './lib/abort.js'
import type { Tally } from './metrics/index.js'

/** Puts right what a crash has left: at the start, and whenever the database or ovs-vswitchd comes back. */
export interface Recovery {
  /** To be called when ovs-vswitchd answers again, or another one does. */
  vswitchdBack(): void
}

/** A start waits for so long; what takes more goes on while calls are served. */
const startWithinMs = 5_000

/** What a stuck ovs-vswitchd keeps from being finished is taken up again when it is back. */
const withinMs = 30_000

/** Resolves when what the last run left is put right, or has begun to be and takes its time. */
export async function keepRecovered(host: Host, capturePorts: CapturePorts, tally: Tally): Promise<Recovery> {
  const marked = await markedDevices(host, { signal: host.lifetime, caller: 'recover' })
  let turn: Promise<unknown> = Promise.resolve()
  const run = (occasion: Occasion) => {
    turn = turn.then(async () => {
      if (host.lifetime.aborted || host.ovsdb.status.state !== 'ready') return
      using scope = abortScope({ deadline: Date.now() + withinMs, parents: [host.lifetime] })
      const remains = { capturePorts, marked: occasion === 'start' ? marked : [] }
      const { repaired, failed } = await recover(host, occasion, remains, { signal: scope.signal, caller: 'recover' })
      tally.reconciled(occasion, failed.length === 0 ? 'done' : 'failed')
      for (const [what, names] of repaired) tally.repaired(what, names.length)
      if (repaired.size > 0) host.notice('info', 'put right what was not as it should be', told(occasion, repaired))
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
  host.lifetime.addEventListener('abort', () => following[Symbol.dispose](), { once: true })
  using scope = abortScope({ deadline: Date.now() + startWithinMs, parents: [host.lifetime] })
  await raceAbort(first, scope.signal).catch(() => undefined)
  return { vswitchdBack: () => void run('vswitchd_restart') }
}

function told(occasion: Occasion, repaired: ReadonlyMap<string, readonly string[]>): Record<string, unknown> {
  return { occasion, ...Object.fromEntries(repaired) }
}
