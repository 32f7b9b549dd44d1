import type { Refusal } from './link.js'

/** Where it happened. */
export interface Where {
  /** The call: `createTaps`… */
  readonly operation: string
  readonly device?: string
  /** Which of the specs of a bulk call, from 0. */
  readonly specIndex?: number
}

/** What the kernel room can fail with. */
export type KernelProblem = Where &
  (
    | { readonly kind: 'exists'; readonly refusal: Refusal }
    | { readonly kind: 'no-device'; readonly refusal: Refusal }
    /** Not there, or not a network namespace; `detail` says which. */
    | { readonly kind: 'no-netns'; readonly netns: string; readonly detail: string }
    /** /dev/net/tun is missing or does not work. */
    | { readonly kind: 'no-tun'; readonly refusal: Refusal }
    | { readonly kind: 'not-permitted'; readonly refusal: Refusal }
    /** The kernel has no module sch_<qdisc>. */
    | { readonly kind: 'no-qdisc'; readonly qdisc: string; readonly refusal: Refusal }
    /** Any other no of the kernel, in its words. */
    | { readonly kind: 'refused'; readonly refusal: Refusal }
    /** An answer that cannot be read, or a defect of ours. */
    | { readonly kind: 'unexpected'; readonly detail: string }
    /** The caller's signal, or the room was closed. */
    | { readonly kind: 'aborted' }
    /** The thread that makes the system calls is gone; the outcome is unknown. */
    | { readonly kind: 'worker-died'; readonly detail: string }
  )

/** The one error of this room. */
export class KernelError extends Error {
  override readonly name = 'KernelError'
  readonly problem: KernelProblem

  constructor(problem: KernelProblem, options?: { readonly cause?: unknown }) {
    super(describe(problem), options)
    this.problem = problem
  }
}

function describe(problem: KernelProblem): string {
  const subject = problem.device === undefined ? problem.operation : `${problem.operation} ${problem.device}`
  return `${subject}: ${reasonOf(problem)}`
}

function reasonOf(problem: KernelProblem): string {
  switch (problem.kind) {
    case 'exists':
      return `a device of this name exists (${inWords(problem.refusal)})`
    case 'no-device':
      return `no such device (${inWords(problem.refusal)})`
    case 'no-netns':
      return `no network namespace ${problem.netns}: ${problem.detail}`
    case 'no-tun':
      return `/dev/net/tun is not usable (${inWords(problem.refusal)})`
    case 'no-qdisc':
      return `the kernel has no qdisc ${problem.qdisc}: the module sch_${problem.qdisc} is missing (${inWords(problem.refusal)})`
    case 'not-permitted':
      return `not permitted (${inWords(problem.refusal)})`
    case 'refused':
      return `refused by the kernel (${inWords(problem.refusal)})`
    case 'unexpected':
      return problem.detail
    case 'aborted':
      return 'aborted'
    case 'worker-died':
      return `the kernel worker is gone: ${problem.detail}`
  }
}

function inWords(refusal: Refusal): string {
  return refusal.message === '' ? refusal.errno : `${refusal.errno}: ${refusal.message}`
}
