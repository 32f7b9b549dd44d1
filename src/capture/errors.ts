/** What this room can fail with. */
export type CaptureProblem =
  /** libpcap is not installed. */
  | { readonly kind: 'no-libpcap' }
  /** In libpcap's own words. */
  | { readonly kind: 'bad-filter'; readonly detail: string }
  /** The device cannot be listened to. */
  | { readonly kind: 'device-refused'; readonly device: string; readonly detail: string }
  /** The kernel has nothing left of what a capture needs. */
  | { readonly kind: 'exhausted'; readonly detail: string }
  /** The thread that captures is gone. */
  | { readonly kind: 'worker-died'; readonly detail: string }
  /** The engine was closed. */
  | { readonly kind: 'closed' }
  /** A defect of ours. */
  | { readonly kind: 'unexpected'; readonly detail: string }

/** The one error of this room. */
export class CaptureError extends Error {
  override readonly name = 'CaptureError'
  readonly problem: CaptureProblem

  constructor(problem: CaptureProblem, options?: { readonly cause?: unknown }) {
    super(describe(problem), options)
    this.problem = problem
  }
}

/** What befell a file: a name of errno(3) says why. */
export function fileErrorInWords(what: string, code: string): string {
  return code === 'ENOSPC' || code === 'EDQUOT' ? 'the disk is full' : `${what} (${code})`
}

function describe(problem: CaptureProblem): string {
  switch (problem.kind) {
    case 'no-libpcap':
      return 'libpcap is not installed'
    case 'device-refused':
      return `${problem.device} cannot be captured: ${problem.detail}`
    case 'worker-died':
      return `the thread that captures is gone: ${problem.detail}`
    case 'closed':
      return 'no more captures are taken'
    case 'bad-filter':
    case 'exhausted':
    case 'unexpected':
      return problem.detail
  }
}
