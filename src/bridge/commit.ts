import { randomBytes } from 'node:crypto'
import type { Tables } from '../gen/vswitch.js'
import { abortReason, raceAbort } from '../lib/abort.js'
import type { Committed, Transaction } from '../ovsdb/index.js'
import { newTransaction, OvsdbError } from '../ovsdb/index.js'
import type { Call } from './call.js'
import { Epochs } from './epochs.js'
import { fateOf, type Mark, markTransaction } from './last-transaction.js'
import { type OvsClient, type OvsReplica, rootOf } from './ovs.js'
import { BridgeError } from './problem.js'

export type OvsTransaction = Transaction<Tables>

/** A caller's part of a transaction. */
export interface Part<R> {
  /** Names that it inserts, changes or removes. No two parts of one transaction share one, and they keep their order. */
  readonly owns: readonly string[]
  /** Names that must stay as they are meanwhile, such as the bridge of a new tap. */
  readonly needs: readonly string[]
  /** ovs-vswitchd has to act on it: `next_cfg` is bumped, and it counts as applied when `cur_cfg` has followed. */
  readonly reconfigures: boolean
  /** It undoes a failed call, and so does not wait until ovs-vswitchd has applied what came before. */
  readonly undoes?: boolean
  /**
   * Adds the operations, planned from the replica as it is now; runs again when the transaction has to be repeated.
   * What it throws is the answer to this caller alone. Its own answer gives the result once the transaction is committed, which
   * may have been found out without the server's.
   */
  write(transaction: OvsTransaction, replica: OvsReplica): () => R
}

/** What a caller gets once its part stands in the database. */
export interface Receipt<R> {
  readonly result: R
  /** The `next_cfg` that stands for it; undefined when ovs-vswitchd need not act. */
  readonly epoch: bigint | undefined
}

/** A transaction that was answered. */
export interface Sent {
  /** Callers' parts that it carried. */
  readonly parts: number
  readonly outcome: 'committed' | 'failed'
  readonly durationMs: number
}

interface Job {
  readonly part: Part<unknown>
  readonly caller: string
  readonly signal: AbortSignal
  readonly settle: (outcome: Outcome) => void
  /** Resolves when it is settled, or was taken back before it was sent. */
  readonly ended: Promise<void>
}

type Outcome =
  | { readonly ok: true; readonly receipt: Receipt<unknown> }
  | { readonly ok: false; readonly error: unknown }

interface Written {
  readonly job: Job
  readonly read: () => unknown
}

interface Built {
  readonly transaction: OvsTransaction
  readonly written: readonly Written[]
  readonly readEpoch: (committed: Committed) => bigint | undefined
  readonly mark: Mark | undefined
}

/** A race lost this many times in a row is somebody else's storm, not ours to sit out. */
const maxAttempts = 5

/** Parts of one transaction at most. */
const maxBatch = 512

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
  #queue: Job[] = []
  /** Neither settled nor taken back yet. */
  readonly #open = new Set<Job>()
  #sending = false
  #scheduled = false
  #transactions = 0

  /** `onSent` is told of every transaction once. */
  constructor(ovsdb: OvsClient, instance: string, lifetime: AbortSignal, onSent: (sent: Sent) => void = () => {}) {
    this.#onSent = onSent
    this.#ovsdb = ovsdb
    this.#instance = instance
    this.#lifetime = lifetime
    this.#epochs = new Epochs(ovsdb, lifetime, () => this.#schedule())
    // Without a connection nobody waits for ovs-vswitchd: what is queued is told so at once.
    const following = ovsdb.onStatus(() => this.#schedule())
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
    return new Promise((resolve, reject) => {
      // The part's own type comes back through this variable, so that the queue need not know it.
      let result: { readonly value: R } | undefined
      const typed: Part<unknown> = {
        ...part,
        write: (transaction, replica) => {
          const read = part.write(transaction, replica)
          return () => (result = { value: read() })
        },
      }
      let resolveEnded = () => {}
      const ended = new Promise<void>(done => {
        resolveEnded = done
      })
      const end = () => {
        this.#open.delete(job)
        resolveEnded()
      }
      const onAbort = () => {
        const waiting = this.#queue.indexOf(job)
        if (waiting >= 0) {
          this.#queue.splice(waiting, 1)
          end()
          reject(abortReason(call.signal))
        } else reject(sentAndLeft(call.signal))
      }
      const job: Job = {
        part: typed,
        caller: call.caller,
        signal: call.signal,
        ended,
        settle: outcome => {
          end()
          call.signal.removeEventListener('abort', onAbort)
          if (!outcome.ok) reject(outcome.error)
          else if (result !== undefined) resolve({ result: result.value, epoch: outcome.receipt.epoch })
        },
      }
      if (call.signal.aborted) {
        reject(abortReason(call.signal))
        return
      }
      call.signal.addEventListener('abort', onAbort, { once: true })
      this.#open.add(job)
      if (part.undoes) this.#queue.unshift(job)
      else this.#queue.push(job)
      this.#schedule()
    })
  }

  /** Resolves when ovs-vswitchd has applied the receipt's epoch; throws when the call ends before. */
  async applied(receipt: Receipt<unknown>, call: Call): Promise<void> {
    if (receipt.epoch !== undefined) await this.#epochs.reached(receipt.epoch, call.signal)
  }

  /**
   * Resolves when nothing that owns one of the names is on its way, and ovs-vswitchd has applied all that was: it has let go
   * of former ports of theirs. Until then it may open a device that is made anew under such a name, give it the flags that
   * the former one had, or remove it. Throws when the call ends before.
   */
  async idle(names: readonly string[], call: Call): Promise<void> {
    const wanted = new Set(names)
    const open = [...this.#open].filter(job => job.part.owns.some(name => wanted.has(name)))
    await raceAbort(Promise.all(open.map(job => job.ended)), call.signal)
    await this.#epochs.reachedOf(wanted, call.signal)
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

  /** Those at the head of the queue that may go together now. What stays behind holds up only what shares its names. */
  #takeBatch(): Job[] {
    const batch: Job[] = []
    const rest: Job[] = []
    const waits = this.#epochs.isPending && this.#ovsdb.status.state === 'ready'
    const owned = new Set<string>()
    const needed = new Set<string>()
    for (const job of this.#queue) {
      const { owns, needs, reconfigures, undoes } = job.part
      const clashes = owns.some(name => owned.has(name) || needed.has(name)) || needs.some(name => owned.has(name))
      const early = waits && reconfigures && !undoes
      for (const name of owns) owned.add(name)
      for (const name of needs) needed.add(name)
      if (clashes || early || batch.length >= maxBatch) rest.push(job)
      else batch.push(job)
    }
    this.#queue = rest
    return batch
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
      built = this.#build(batch)
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
      job.settle({ ok: true, receipt: { result: undefined, epoch: job.part.reconfigures ? epoch : undefined } })
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

  /** One transaction of all the parts that can be written. A part that throws is settled, and what it had added is thrown away. */
  #build(batch: readonly Job[]): Built | undefined {
    for (let jobs = batch; jobs.length > 0; ) {
      const transaction = newTransaction(this.#ovsdb.schema)
      const written: Written[] = []
      const failed = jobs.find(job => !this.#write(job, transaction, written))
      if (failed === undefined) return this.#finish(transaction, written)
      jobs = jobs.filter(job => job !== failed)
    }
    return undefined
  }

  #write(job: Job, transaction: OvsTransaction, written: Written[]): boolean {
    try {
      written.push({ job, read: job.part.write(transaction, this.#ovsdb.replica) })
      return true
    } catch (error) {
      job.settle({ ok: false, error })
      return false
    }
  }

  #finish(transaction: OvsTransaction, written: readonly Written[]): Built {
    const callers = [...new Set(written.map(({ job }) => job.caller))].join(', ')
    transaction.comment(`ovs-bridged ${this.#instance}: ${callers}`.slice(0, 500))
    const mark = markTransaction(transaction, this.#ovsdb.replica, this.#instance, `${this.#run}:${this.#transactions}`)
    const reconfigures = written.some(({ job }) => job.part.reconfigures)
    return { transaction, written, mark, readEpoch: reconfigures ? this.#bumpEpoch(transaction) : () => undefined }
  }

  /** ovs-vswitchd.conf.db(5), Open_vSwitch.next_cfg: a trigger as well as a number to wait for. */
  #bumpEpoch(transaction: OvsTransaction): (committed: Committed) => bigint | undefined {
    const root = rootOf(this.#ovsdb.replica)
    if (root === undefined)
      throw new OvsdbError({ kind: 'not-connected', message: 'the database has no Open_vSwitch row' })
    transaction.mutate('Open_vSwitch', root._uuid, 'next_cfg', '+=', 1)
    const selection = transaction.select('Open_vSwitch', root._uuid, ['next_cfg'])
    return committed => {
      const row = committed.row(selection)
      return row === undefined ? undefined : BigInt(row.next_cfg)
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

function sentAndLeft(signal: AbortSignal): BridgeError {
  const message = `${abortReason(signal).message} while the change was on its way to the database`
  return new BridgeError({ kind: 'outcome-unknown', reason: 'OUTCOME_UNKNOWN', message }, { cause: signal.reason })
}
