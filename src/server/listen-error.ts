export interface ListenProblem {
  readonly kind: 'in-use' | 'not-a-socket' | 'unsafe-path' | 'cannot-bind'
  readonly address: string
  readonly message: string
}

/** An address that cannot be served. */
export class ListenError extends Error {
  override readonly name = 'ListenError'
  readonly problem: ListenProblem

  constructor(problem: ListenProblem, options?: { readonly cause?: unknown }) {
    super(problem.message, options)
    this.problem = problem
  }
}
