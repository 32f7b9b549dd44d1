import { watchFormat } from './bridge/later-format.js'
import type { OvsClient } from './bridge/ovs.js'
import { type AbortScope, shuttingDown } from './lib/abort.js'

/** Why a daemon cannot go on. */
export interface Failure extends Disposable {
  readonly failed: Promise<Error>
  throwIfFailed(): void
}

/** Has a daemon fail that finds records in its database which it would misread. Neither call nor recovery goes on from there. */
export function failUpon(ovsdb: OvsClient, instance: string, lifetime: AbortScope): Failure {
  let failure: Error | undefined
  let fail: (error: Error) => void
  const failed = new Promise<Error>(resolve => (fail = resolve))
  const watching = watchFormat(ovsdb, instance, error => {
    failure = error
    lifetime.abort(shuttingDown())
    void ovsdb[Symbol.asyncDispose]()
    fail(error)
  })
  return {
    failed,
    throwIfFailed: () => {
      if (failure !== undefined) throw failure
    },
    [Symbol.dispose]: () => watching[Symbol.dispose](),
  }
}
