import { type Committed, newTransaction, OvsdbError } from '../ovsdb/index.js'
import type { Job } from './job.js'
import { type Mark, markTransaction } from './last-transaction.js'
import { type OvsClient, rootOf } from './ovs.js'
import type { OvsTransaction } from './part.js'

/** Parts of one transaction at most. */
const maxParts = 512

/**
 * Those at the head of the queue that may go together now, and those who stay behind: they hold up only what shares their names.
 * `isEarly`: what ovs-vswitchd must act on waits, because it has not applied the last change or others join the next.
 */
export function takeBatch(
  queue: readonly Job[],
  isEarly: boolean,
): { readonly batch: readonly Job[]; readonly rest: readonly Job[] } {
  const batch: Job[] = []
  const rest: Job[] = []
  const owned = new Set<string>()
  const needed = new Set<string>()
  for (const job of queue) {
    const { owns, needs, reconfigures, undoes } = job.part
    const clashes = owns.some(name => owned.has(name) || needed.has(name)) || needs.some(name => owned.has(name))
    const early = isEarly && reconfigures && !undoes
    for (const name of owns) owned.add(name)
    for (const name of needs) needed.add(name)
    if (clashes || early || batch.length >= maxParts) rest.push(job)
    else batch.push(job)
  }
  return { batch, rest }
}

interface Written {
  readonly job: Job
  readonly read: () => unknown
}

/** One transaction of the parts of several callers. */
export interface Built {
  readonly transaction: OvsTransaction
  readonly written: readonly Written[]
  readonly readEpoch: (committed: Committed) => bigint | undefined
  readonly mark: Mark | undefined
}

/**
 * One transaction, named `id`, of all the parts that can be written. A part that throws is settled, and what it had added is thrown
 * away. Undefined when none is left.
 */
export function buildBatch(batch: readonly Job[], ovsdb: OvsClient, instance: string, id: string): Built | undefined {
  for (let jobs = batch; jobs.length > 0; ) {
    const transaction = newTransaction(ovsdb.schema)
    const written: Written[] = []
    const failed = jobs.find(job => !writePart(job, transaction, ovsdb, written))
    if (failed === undefined) return finish(transaction, written, ovsdb, instance, id)
    jobs = jobs.filter(job => job !== failed)
  }
  return undefined
}

function writePart(job: Job, transaction: OvsTransaction, { replica }: OvsClient, written: Written[]): boolean {
  try {
    written.push({ job, read: job.part.write(transaction, replica) })
    return true
  } catch (error) {
    job.settle({ ok: false, error })
    return false
  }
}

function finish(
  transaction: OvsTransaction,
  written: readonly Written[],
  ovsdb: OvsClient,
  instance: string,
  id: string,
): Built {
  const callers = new Set(written.map(({ job }) => job.caller))
  transaction.comment(`ovs-bridged ${instance}: ${[...callers].join(', ')}`)
  const mark = markTransaction(transaction, ovsdb.replica, instance, id)
  const reconfigures = written.some(({ job }) => job.part.reconfigures)
  return { transaction, written, mark, readEpoch: reconfigures ? bumpEpoch(transaction, ovsdb) : () => undefined }
}

/** ovs-vswitchd.conf.db(5), Open_vSwitch.next_cfg: a trigger as well as a number to wait for. */
function bumpEpoch(transaction: OvsTransaction, { replica }: OvsClient): (committed: Committed) => bigint | undefined {
  const root = rootOf(replica)
  if (root === undefined)
    throw new OvsdbError({ kind: 'not-connected', message: 'the database has no Open_vSwitch row' })
  transaction.mutate('Open_vSwitch', root._uuid, 'next_cfg', '+=', 1)
  const selection = transaction.select('Open_vSwitch', root._uuid, ['next_cfg'])
  return committed => {
    const row = committed.row(selection)
    return row === undefined ? undefined : BigInt(row.next_cfg)
  }
}
