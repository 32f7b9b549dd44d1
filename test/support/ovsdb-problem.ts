import { type Limits, OvsdbError, type OvsdbProblem } from '../../src/ovsdb/index.js'

/** What tells errors of this kind, for `assert.rejects` and the like. */
export function problemKind(kind: OvsdbProblem['kind']): (error: unknown) => boolean {
  return error => error instanceof OvsdbError && error.problem.kind === kind
}

/** As {@link problemKind}, for a limit that was passed. */
export function isLimit(limit: keyof Limits): (error: unknown) => boolean {
  return error => error instanceof OvsdbError && error.problem.kind === 'limit' && error.problem.limit === limit
}
