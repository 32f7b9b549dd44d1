import type { KernelProblem } from './errors.js'
import type {
  Deletion,
  Device,
  KernelFacts,
  Link,
  LinkChange,
  LinkTarget,
  Policer,
  Qdisc,
  QdiscSpec,
  TapSpec,
  Veth,
  VethSpec,
} from './link.js'

/** What the worker can be asked, and what it answers. */
export interface Operations {
  readonly createTaps: { readonly request: readonly TapSpec[]; readonly reply: Device[] }
  readonly createVeth: { readonly request: VethSpec; readonly reply: Veth }
  readonly getLink: { readonly request: string; readonly reply: Link | undefined }
  readonly listLinks: { readonly request: undefined; readonly reply: Link[] }
  readonly setLink: {
    readonly request: { readonly name: string; readonly change: LinkChange }
    readonly reply: undefined
  }
  readonly deleteLinks: { readonly request: readonly LinkTarget[]; readonly reply: Deletion }
  readonly setQdisc: {
    readonly request: { readonly index: number; readonly spec: QdiscSpec; readonly afresh: boolean }
    readonly reply: undefined
  }
  readonly removeQdisc: { readonly request: number; readonly reply: undefined }
  readonly getQdisc: { readonly request: number; readonly reply: Qdisc | undefined }
  readonly listQdiscs: { readonly request: undefined; readonly reply: ReadonlyMap<number, Qdisc> }
  readonly removeIngressQdisc: { readonly request: number; readonly reply: undefined }
  readonly getPolicer: { readonly request: number; readonly reply: Policer | undefined }
  readonly probe: { readonly request: undefined; readonly reply: KernelFacts }
}

export type OperationName = keyof Operations

/** One request to the worker. */
export type WorkerRequest<K extends OperationName = OperationName> = {
  readonly [O in K]: {
    readonly id: number
    readonly operation: O
    readonly request: Operations[O]['request']
  }
}[K]

/** A request as the worker serves it. */
export type WorkerCall<K extends OperationName = OperationName> = {
  readonly [O in K]: WorkerRequest<O> & { readonly stage: Int32Array }
}[K]

/** What came of a call. None is sent to a caller who went away. */
export type WorkerAnswer<K extends OperationName = OperationName> =
  | { readonly type: 'done'; readonly id: number; readonly value: Operations[K]['reply'] }
  | { readonly type: 'failed'; readonly id: number; readonly problem: KernelProblem }

/** To the worker. */
export type WorkerMessage<Request = WorkerRequest> =
  /** To be served in this order; the next come when all of these are. `stages` has the stage of each, in the same order. */
  | { readonly type: 'requests'; readonly requests: readonly Request[]; readonly stages: SharedArrayBuffer }
  | { readonly type: 'close' }

/** From the worker; `ready` or `unusable` comes first. */
export type WorkerReply =
  /** With the netlink address of its requests. */
  | { readonly type: 'ready'; readonly portId: number }
  | { readonly type: 'unusable'; readonly problem: KernelProblem }
  /** Of some of the calls that came together; `areLast`: all of them are served now. */
  | { readonly type: 'answers'; readonly answers: readonly WorkerAnswer[]; readonly areLast: boolean }

/**
 * How far a call is: one number in memory that both threads see, changed only by compare-and-exchange, so that an abort
 * and the call's end agree on which of them came first.
 */
const states = { queued: 0, taken: 1, finished: 2, aborted: 3 } as const

/** The stages of so many calls; one piece of memory for all, since it is dear to make and to send. */
export function newStages(count: number): SharedArrayBuffer {
  return new SharedArrayBuffer(count * Int32Array.BYTES_PER_ELEMENT)
}

/** That of one of them. */
export function stageOf(memory: SharedArrayBuffer, place: number): Int32Array {
  return new Int32Array(memory, place * Int32Array.BYTES_PER_ELEMENT, 1)
}

/** The worker begins; false when the caller is gone. */
export function take(stage: Int32Array): boolean {
  return move(stage, states.queued, states.taken)
}

/** The worker is done; false when the caller went away meanwhile. */
export function finish(stage: Int32Array): boolean {
  return move(stage, states.taken, states.finished)
}

/** The caller goes away; false when the call has finished and its answer is on the way. */
export function abort(stage: Int32Array): boolean {
  return move(stage, states.queued, states.aborted) || move(stage, states.taken, states.aborted)
}

export function isAborted(stage: Int32Array): boolean {
  return Atomics.load(stage, 0) === states.aborted
}

function move(stage: Int32Array, from: number, to: number): boolean {
  return Atomics.compareExchange(stage, 0, from, to) === from
}
