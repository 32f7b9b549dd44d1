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
  type WorkerMessage,
  type WorkerReply,
} from './operations.js'
import { getPolicer, removeIngressQdisc } from './policer.js'
import { probe } from './probe.js'
import { getQdisc, listQdiscs, removeQdisc, setQdisc } from './qdisc.js'
import { createTaps } from './tap.js'
import { createVeth } from './veth.js'
import {
  consented,
  dumpLinks,
  findLink,
  type Outcome,
  refused,
  setSilently,
  type WorkerContext,
} from './worker-context.js'

/** The thread that makes the system calls: one request after the other, in the order they were sent. */

type Handlers = {
  readonly [K in OperationName]: (
    context: WorkerContext,
    request: Operations[K]['request'],
    stage: Int32Array,
  ) => Outcome<Operations[K]['reply']>
}

const handlers: Handlers = {
  createTaps,
  createVeth,
  getLink: (context, name) => ({ value: findLink(context, name, 'getLink') }),
  listLinks: context => ({ value: dumpLinks(context, 'listLinks', true) }),
  setLink: (context, { name, change }) => {
    const { silent, ...settings } = change
    const where = { operation: 'setLink', device: name }
    if (silent) setSilently(context, [{ index: 0, settings: { name, ...settings }, where }])
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

function serve<K extends OperationName>(
  context: WorkerContext,
  { id, stage, operation, request }: Extract<WorkerMessage<K>, { type: 'call' }>,
): WorkerReply<K> | undefined {
  if (!take(stage)) return undefined
  try {
    const { value, undo } = handlers[operation](context, request, stage)
    if (finish(stage)) return { type: 'done', id, value }
    undo?.()
    return undefined
  } catch (error) {
    finish(stage)
    return { type: 'failed', id, problem: problemOf(error, operation) }
  }
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
      const reply = serve(context, message)
      if (reply !== undefined) post(reply)
    })
    post({ type: 'ready', portId: context.route.portId() })
  } catch (error) {
    post({ type: 'unusable', problem: problemOf(error, 'openKernel') })
  }
}

start()
