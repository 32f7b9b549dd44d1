import { parentPort } from 'node:worker_threads'
import { loadSyscalls } from '../lib/syscall.js'
import { deleteLinks, discard } from './deletion.js'
import { KernelError, type KernelProblem } from './errors.js'
import type { Device } from './link.js'
import { encodeLinkChange, RTM_SETLINK } from './netlink/link-message.js'
import { NETLINK_ROUTE, openNetlinkSocket } from './netlink/socket.js'
import {
  finish,
  type OperationName,
  type Operations,
  stageOf,
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

/**
 * Calls that want taps one after the other have them made side by side, until it is this many: each of them waits for all. Of
 * a name that comes again the second is looked at when it is known what came of the first.
 */
const maxSideBySide = 64

function inRounds(calls: readonly WorkerCall[]): Round[] {
  const rounds: Round[] = []
  let taps: TapsCall[] = []
  const names = new Set<string>()
  for (const call of calls) {
    if (call.operation !== 'createTaps') {
      rounds.push({ other: call })
      taps = []
      continue
    }
    const wanted = call.request.map(({ name }) => name)
    const isFull = names.size + wanted.length > maxSideBySide || wanted.some(name => names.has(name))
    if (taps.length === 0 || isFull) {
      taps = []
      names.clear()
      rounds.push({ taps })
    }
    taps.push(call)
    for (const name of wanted) names.add(name)
  }
  return rounds
}

function serveRound(context: WorkerContext, round: Round): WorkerAnswer[] {
  return 'taps' in round ? serveTaps(context, round.taps) : serve(context, round.other)
}

function serveTaps(context: WorkerContext, calls: readonly TapsCall[]): WorkerAnswer[] {
  const taken = calls.filter(({ stage }) => take(stage))
  const orders = taken.map(call => ({ call, specs: call.request, stage: call.stage }))
  const unheard: Device[] = []
  const answers = createTaps(context, orders).flatMap(([{ call }, attempt]) => {
    if (finish(call.stage)) return [answer(call, attempt)]
    if (attempt.ok) unheard.push(...attempt.value)
    return []
  })
  discard(context, unheard)
  return answers
}

/** No answer when the caller went away meanwhile: then it is undone. */
function serve<K extends OtherName>(context: WorkerContext, call: WorkerCall<K>): WorkerAnswer[] {
  const { operation, request, stage } = call
  if (!take(stage)) return []
  const attempt = attempted(() => handlers[operation](context, request, stage))
  if (finish(stage)) return [answer(call, attempt.ok ? { ok: true, value: attempt.value.value } : attempt)]
  if (attempt.ok) attempt.value.undo?.()
  return []
}

function answer<K extends OperationName>(
  { id, operation }: WorkerCall<K>,
  attempt: Attempt<Operations[K]['reply']>,
): WorkerAnswer<K> {
  return attempt.ok
    ? { type: 'done', id, value: attempt.value }
    : { type: 'failed', id, problem: problemOf(attempt.error, operation) }
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
      const { requests, stages } = message
      const rounds = inRounds(requests.map((request, place) => ({ ...request, stage: stageOf(stages, place) })))
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
