import { randomBytes } from 'node:crypto'
import { abortReason, raceAbort } from '../lib/abort.js'
import { type Committed, OvsdbError } from '../ovsdb/index.js'
import { type Built, buildBatch, takeBatch } from './batch.js'
import type { Call } from './call.js'
import { Epochs } from './epochs.js'
import { type Job, openJob } from './job.js'
import { fateOf } from './last-transaction.js'
import { type OvsClient, rootOf } from './ovs.js'
import type { Part, Receipt } from './part.js'
import { type Place, Waves } from './wave.js'

export type { OvsTransaction, Part, Receipt } from './part.js'

/** A transaction that was answered. */
export interface Sent {
  /** Callers' parts that it carried. */
  readonly parts: number
  readonly outcome: 'committed' | 'failed'
  readonly durationMs: number
}

/** A race lost this many times in a row is somebody else's storm, not ours to sit out. */
const maxAttempts = 5

/**
 * The only caller of `transact`. Parts that wait at the same time share one transaction and one epoch of ovs-vswitchd,
 * which walks over all its ports for each: batching is everything. When a shared transaction fails, each part is repeated
 * alone, so that a bad one fails nobody else.
 *
 * One transaction is under way at a time, and one that reconfigures leaves only when ovs-vswitchd has applied the last.
 * So a name that is removed and inserted again never falls into one epoch, in which ovs-vswitchd would keep a dead device.
 */
export class Committer {
  readonly #ovsdb: OvsClient
  readonly #instance: string
  /** Tells our transactions from those of any other run. */
  readonly #run = randomBytes(4).toString('hex')
  readonly #lifetime: AbortSignal
  readonly #onSent: (sent: Sent) => void
  readonly #epochs: Epochs
  readonly #waves: Waves
  #queue: Job[] = []
  /** Neither settled nor taken back yet. */
  readonly #open = new Set<Job>()
  #sending = false
  /** What is being sent is for ovs-vswitchd to act on. */
  #reconfiguring = false
  #scheduled = false
  #transactions = 0

  /** `onSent` is told of every transaction once. */
  constructor(ovsdb: OvsClient, instance: string, lifetime: AbortSignal, onSent: (sent: Sent) => void = () => {}) {
    this.#onSent = onSent
    this.#ovsdb = ovsdb
    this.#instance = instance
    this.#lifetime = lifetime
    this.#epochs = new Epochs(ovsdb, lifetime, () => this.#goOn())
    this.#waves = new Waves(
      () => this.#isUnderWay,
      () => this.#schedule(),
    )
    // Without a connection nobody waits for ovs-vswitchd: what is queued is told so at once.
    const following = ovsdb.onStatus(() => this.#goOn())
    lifetime.addEventListener('abort', () => following[Symbol.dispose](), { once: true })
  }

  /** Transactions sent so far. */
  get transactions(): number {
    return this.#transactions
  }

  /**
   * Resolves when the part is committed.
   *
   * Errors: what `write` throws; `backend-unavailable` at once without a connection; when the call ends before its part
   * was sent, its deadline or cancellation, and nothing was done; when it ends later, `outcome-unknown`. A part whose answer was
   * lost with the connection is looked up when the database is back, and sent again if it does not stand there.
   */
  commit<R>(part: Part<R>, call: Call): Promise<Receipt<R>> {
    if (call.signal.aborted) return Promise.reject(abortReason(call.signal))
    const { job, receipt } = openJob(part, call, waiting => this.#takeBack(waiting))
    this.#open.add(job)
    void job.ended.then(() => this.#open.delete(job))
    if (part.undoes) this.#queue.unshift(job)
    else this.#queue.push(job)
    part.place?.[Symbol.dispose]()
    this.#schedule()
    return receipt
  }

  /** Resolves when ovs-vswitchd has applied the receipt's epoch; throws when the call ends before. */
  async applied(receipt: Receipt<unknown>, call: Call): Promise<void> {
    if (receipt.epoch !== undefined) await this.#epochs.reached(receipt.epoch, call.signal)
  }

  /** The result of a part that is committed and {@link applied}. Errors: those of {@link commit}; the end of the call. */
  async commitApplied<R>(part: Part<R>, call: Call): Promise<R> {
    const receipt = await this.commit(part, call)
    await this.applied(receipt, call)
    return receipt.result
  }

  /**
   * Resolves when nothing that owns one of the names is on its way, and ovs-vswitchd has applied all that was: it has let go
   * of former ports of theirs. Until then it may open a device that is made anew under such a name, give it the flags that
   * the former one had, or remove it. Throws when the call ends before.
   */
  async idle(names: readonly string[], call: Call): Promise<void> {
    call.signal.throwIfAborted()
    if (this.#open.size > 0) {
      const wanted = new Set(names)
      const open = [...this.#open].filter(({ part }) => part.owns.some(name => wanted.has(name)))
      if (open.length > 0) await raceAbort(Promise.all(open.map(job => job.ended)), call.signal)
    }
    await this.#epochs.reachedOf(names, call.signal)
  }

  /**
   * A place in the next transaction that ovs-vswitchd must act on, for a call that makes devices of these names first: see
   * {@link Waves}. The names are {@link idle} then. Throws when the call ends before it has one.
   */
  async join(names: readonly string[], call: Call): Promise<Place> {
    await this.idle(names, call)
    return await this.#waves.join(call.signal)
  }

  #goOn(): void {
    this.#waves.proceed()
    this.#schedule()
  }

  /** Calls of one turn of the event loop go together. */
  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      void this.#pump()
    })
  }

  async #pump(): Promise<void> {
    if (this.#sending) return
    this.#sending = true
    try {
      for (let batch = this.#takeBatch(); batch.length > 0; batch = this.#takeBatch()) await this.#commitBatch(batch)
    } finally {
      this.#sending = false
    }
  }

  /** Those of the queue that may go together now. */
  #takeBatch(): readonly Job[] {
    const isEarly = this.#isEpochPending || this.#waves.isGathering
    if (!isEarly) this.#waves.depart()
    const { batch, rest } = takeBatch(this.#queue, isEarly)
    this.#queue = [...rest]
    this.#reconfiguring = batch.some(({ part }) => part.reconfigures)
    if (!this.#isUnderWay) this.#waves.proceed()
    return batch
  }

  get #isUnderWay(): boolean {
    return this.#reconfiguring || this.#isEpochPending
  }

  get #isEpochPending(): boolean {
    return this.#epochs.isPending && this.#ovsdb.status.state === 'ready'
  }

  /** False when it is in the queue no more. */
  #takeBack(job: Job): boolean {
    const place = this.#queue.indexOf(job)
    if (place >= 0) this.#queue.splice(place, 1)
    return place >= 0
  }

  async #commitBatch(batch: readonly Job[]): Promise<void> {
    const error = await this.#send(batch)
    if (error === undefined) return
    if (!isLostRace(error)) return settleAll(batch, error)
    for (const job of batch) await this.#commitAlone(job, batch.length === 1 ? 1 : 0)
  }

  async #commitAlone(job: Job, attempted: number): Promise<void> {
    for (let attempt = attempted; ; attempt++) {
      const error = await this.#send([job])
      if (error === undefined) return
      if (isLostRace(error) && attempt + 1 < maxAttempts) continue
      job.settle({ ok: false, error })
      return
    }
  }

  /** Sends one transaction and settles its jobs; returns the error when it failed as a whole, the jobs then unsettled. */
  async #send(batch: readonly Job[]): Promise<unknown> {
    let built: Built | undefined
    try {
      built = buildBatch(batch, this.#ovsdb, this.#instance, `${this.#run}:${this.#transactions}`)
      if (built === undefined) return undefined
      this.#transactions++
      const committed = await this.#transact(built)
      this.#succeed(built, built.readEpoch(committed))
      return undefined
    } catch (error) {
      if (built === undefined || !isUnknown(error)) return error
      // Meanwhile the others are told that there is no database.
      void this.#lookUp(built, error)
      return undefined
    }
  }

  #succeed({ written }: Built, epoch: bigint | undefined): void {
    if (epoch !== undefined) {
      const owned = written.flatMap(({ job }) => job.part.owns)
      this.#epochs.asked(epoch, owned)
    }
    for (const { job, read } of written) {
      read()
      job.settle({ ok: true, epoch: job.part.reconfigures ? epoch : undefined })
    }
  }

  /**
   * Finds out what became of a transaction whose answer was lost with the connection: once the database has been read again,
   * its mark stands there, or still the one before it. What was not committed is planned anew, but for callers who have gone.
   */
  async #lookUp(built: Built, error: unknown): Promise<void> {
    const { mark, written } = built
    const jobs = written.map(({ job }) => job)
    try {
      await this.#ovsdb.settled(this.#lifetime)
    } catch {
      return settleAll(jobs, error)
    }
    const { replica } = this.#ovsdb
    switch (fateOf(mark, replica, this.#instance)) {
      case 'committed': {
        const reconfigures = jobs.some(({ part }) => part.reconfigures)
        return this.#succeed(built, reconfigures ? BigInt(rootOf(replica)?.next_cfg ?? 0) : undefined)
      }
      case 'lost':
        settleAll(
          jobs.filter(({ signal }) => signal.aborted),
          error,
        )
        this.#queue.unshift(...jobs.filter(({ signal }) => !signal.aborted))
        return this.#schedule()
      case 'unknown':
        return settleAll(jobs, error)
    }
  }

  async #transact({ transaction, written }: Built): Promise<Committed> {
    const startedAt = performance.now()
    let outcome: Sent['outcome'] = 'failed'
    try {
      const committed = await this.#ovsdb.transact(transaction, { signal: this.#lifetime })
      outcome = 'committed'
      return committed
    } finally {
      this.#onSent({ parts: written.length, outcome, durationMs: performance.now() - startedAt })
    }
  }
}

/** Nothing was committed, and what was planned may look different from the replica as it is by now. */
function isLostRace(error: unknown): boolean {
  if (!(error instanceof OvsdbError)) return false
  const { kind } = error.problem
  return kind === 'precondition-failed' || kind === 'row-vanished' || kind === 'rejected'
}

function settleAll(jobs: readonly Job[], error: unknown): void {
  for (const job of jobs) job.settle({ ok: false, error })
}

/** It has left, and no answer came. */
function isUnknown(error: unknown): boolean {
  return error instanceof OvsdbError && error.problem.kind === 'outcome-unknown'
}
