import { parentPort } from 'node:worker_threads'
import { loadSyscalls } from '../lib/syscall.js'
import { deleteLinks } from './deletion.js'
import { KernelError, type KernelProblem } from './errors.js'
import { encodeLinkChange, RTM_SETLINK } from './netlink/link-message.js'
import { NETLINK_ROUTE, openNetlinkSocket } from './netlink/socket.js'
import {
  finish,
  type OperationName,
  type Operations,
  take,
  type WorkerAnswer,
  type WorkerCall,
  type WorkerMessage,
  type WorkerReply,
} from './operations.js'
import { getPolicer, removeIngressQdisc } from './policer.js'
import { probe } from './probe.js'
import { getQdisc, listQdiscs, removeQdisc, setQdisc } from './qdisc.js'
import { createTaps } from './tap.js'
import { createVeth } from './veth.js'
import {
  type Attempt,
  attempted,
  consented,
  dumpLinks,
  findLink,
  type Outcome,
  refused,
  setSilently,
  type WorkerContext,
} from './worker-context.js'

/** The thread that makes the system calls, in the order in which they were asked for. */

type TapsCall = WorkerCall<'createTaps'>
type OtherName = Exclude<OperationName, 'createTaps'>

type Handlers = {
  readonly [K in OtherName]: (
    context: WorkerContext,
    request: Operations[K]['request'],
    stage: Int32Array,
  ) => Outcome<Operations[K]['reply']>
}

const handlers: Handlers = {
  createVeth,
  getLink: (context, name) => ({ value: findLink(context, name, 'getLink') }),
  listLinks: context => ({ value: dumpLinks(context, 'listLinks', true) }),
  setLink: (context, { name, change }) => {
    const { silent, ...settings } = change
    const where = { operation: 'setLink', device: name }
    if (silent) setSilently(context, { index: 0, settings: { name, ...settings }, where })
    else {
      const payload = encodeLinkChange(0, { name, ...settings })
      consented(context.route.request({ type: RTM_SETLINK, payload }), where)
    }
    return { value: undefined }
  },
  deleteLinks,
  setQdisc: (context, { index, spec, afresh }) => ({ value: setQdisc(context, index, spec, afresh) }),
  removeQdisc: (context, index) => ({ value: removeQdisc(context, index) }),
  getQdisc: (context, index) => ({ value: getQdisc(context, index) }),
  listQdiscs: context => ({ value: listQdiscs(context) }),
  removeIngressQdisc: (context, index) => ({ value: removeIngressQdisc(context, index) }),
  getPolicer: (context, index) => ({ value: getPolicer(context, index) }),
  probe: context => ({ value: probe(context) }),
}

/** What is served at one time. */
type Round = { readonly taps: readonly TapsCall[] } | { readonly other: WorkerCall<OtherName> }

/** Calls that want taps one after the other have them made side by side, until it is this many: each of them waits for all. */
const maxSideBySide = 64

function inRounds(calls: readonly WorkerCall[]): Round[] {
  const rounds: Round[] = []
  let together: TapsCall[] = []
  let count = 0
  for (const call of calls) {
    if (call.operation !== 'createTaps') {
      rounds.push({ other: call })
      together = []
      continue
    }
    if (together.length === 0 || count + call.request.length > maxSideBySide) {
      together = []
      count = 0
      rounds.push({ taps: together })
    }
    together.push(call)
    count += call.request.length
  }
  return rounds
}

function serveRound(context: WorkerContext, round: Round): WorkerAnswer[] {
  if ('other' in round) return take(round.other.stage) ? answer(round.other, serve(context, round.other)) : []
  const taken = round.taps.filter(({ stage }) => take(stage))
  const orders = taken.map(call => ({ call, specs: call.request, stage: call.stage }))
  return createTaps(context, orders).flatMap(([{ call }, attempt]) => answer(call, attempt))
}

function serve<K extends OtherName>(
  context: WorkerContext,
  { operation, request, stage }: WorkerCall<K>,
): Attempt<Operations[K]['reply']> {
  return attempted(() => handlers[operation](context, request, stage))
}

/** None when the caller went away meanwhile: then it is undone. */
function answer<K extends OperationName>(
  { id, operation, stage }: WorkerCall<K>,
  attempt: Attempt<Operations[K]['reply']>,
): WorkerAnswer<K>[] {
  const isHeard = finish(stage)
  if (!attempt.ok) return [{ type: 'failed', id, problem: problemOf(attempt.error, operation) }]
  if (isHeard) return [{ type: 'done', id, value: attempt.outcome.value }]
  attempted(() => ({ value: attempt.outcome.undo?.() }))
  return []
}

function problemOf(error: unknown, operation: string): KernelProblem {
  if (error instanceof KernelError) return error.problem
  return {
    kind: 'unexpected',
    operation,
    detail: error instanceof Error ? (error.stack ?? error.message) : String(error),
  }
}

function openContext(): WorkerContext {
  const syscalls = loadSyscalls()
  const route = openNetlinkSocket(syscalls, NETLINK_ROUTE)
  if (!route.ok) throw refused(route.errno, 'netlink socket', { operation: 'openKernel' })
  return { syscalls, route: route.value }
}

function start(): void {
  const port = parentPort
  if (port === null) throw new Error('this file is for a worker thread')
  const post = (reply: WorkerReply) => {
    port.postMessage(reply)
  }
  try {
    const context = openContext()
    port.on('message', (message: WorkerMessage) => {
      if (message.type === 'close') {
        context.route[Symbol.dispose]()
        port.close()
        return
      }
      const rounds = inRounds(message.calls)
      for (const [i, round] of rounds.entries()) {
        post({ type: 'answers', answers: serveRound(context, round), areLast: i === rounds.length - 1 })
      }
    })
    post({ type: 'ready', portId: context.route.portId() })
  } catch (error) {
    post({ type: 'unusable', problem: problemOf(error, 'openKernel') })
  }
}

start()
