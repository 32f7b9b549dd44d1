import { limitReached, notConnected, OvsdbError, type OvsdbProblem, protocolError, readError } from './errors.js'
import { asJson, excerpt, isArray, isRecord, type Json } from './json.js'

/** A message that asks for no answer (JSON-RPC 1.0; RFC 7047 §4.1.4 and on). */
export interface Notification {
  readonly method: string
  readonly params: readonly unknown[]
}

interface PendingCall {
  /** Throws what the reading of the answer throws. */
  readonly resolve: (result: unknown) => void
  readonly reject: (error: unknown) => void
}

/** The JSON-RPC 1.0 conversation on one connection (RFC 7047 §4). Answers the server's echo requests by itself. */
export class Rpc {
  /** Throws when the message cannot leave. */
  readonly #send: (message: Json) => void
  readonly #onNotification: (notification: Notification) => void
  readonly #maxPendingCalls: number
  readonly #pending = new Map<number, PendingCall>()
  #lastId = 0
  #lost: OvsdbProblem | undefined

  constructor(
    send: (message: Json) => void,
    onNotification: (notification: Notification) => void,
    maxPendingCalls: number,
  ) {
    this.#send = send
    this.#onNotification = onNotification
    this.#maxPendingCalls = maxPendingCalls
  }

  get pendingCount(): number {
    return this.#pending.size
  }

  /**
   * Rejects with `rejected` when the server answers with an error, with `limit` or `not-connected` when nothing was sent, or
   * with whatever {@link lose} is told. `read` takes the answer in as it comes, before the message behind it; what it throws
   * ends the conversation.
   */
  request<R = unknown>(method: string, params: readonly Json[], read?: (result: unknown) => R): Promise<R> {
    return this.call(method, params, read).answer
  }

  /** A {@link request}, with the id that {@link cancel} takes; undefined when nothing was sent. */
  call<R = unknown>(
    method: string,
    params: readonly Json[],
    read: (result: unknown) => R = result => untyped(result),
  ): { readonly id: number | undefined; readonly answer: Promise<R> } {
    const refusal = this.#refusal()
    if (refusal !== undefined) return { id: undefined, answer: Promise.reject(refusal) }
    const id = ++this.#lastId
    try {
      this.#send({ method, params, id })
    } catch (error) {
      return { id: undefined, answer: Promise.reject(error) }
    }
    const answer = new Promise<R>((resolve, reject) => {
      this.#pending.set(id, { resolve: result => resolve(orReject(() => read(result), reject)), reject })
    })
    return { id, answer }
  }

  /** Asks the server to give a transaction up (RFC 7047 §4.1.4). Its answer still comes, `canceled` or not. */
  cancel(id: number): void {
    try {
      if (this.#pending.has(id)) this.#send({ method: 'cancel', params: [id], id: null })
    } catch {
      // A server that does not read would not have heard of it either.
    }
  }

  /** Takes in one message. Throws `protocol` when it is none, and what the reading of an answer throws. */
  receive(message: unknown): void {
    if (!isRecord(message)) throw protocolError(`expected a message, got ${excerpt(message)}`)
    const { method, params, id } = message
    if (method === undefined) this.#settle(message)
    else if (typeof method !== 'string' || !isArray(params)) throw protocolError(`bad request ${excerpt(message)}`)
    else if (id === null || id === undefined) this.#onNotification({ method, params })
    else if (method === 'echo') this.#send({ result: asJson(params), error: null, id: asJson(id) })
    else this.#send({ result: null, error: 'unknown method', id: asJson(id) })
  }

  /** Ends the conversation: every pending call rejects with `problem`. */
  lose(problem: OvsdbProblem): void {
    if (this.#lost !== undefined) return
    this.#lost = problem
    const pending = [...this.#pending.values()]
    this.#pending.clear()
    for (const { reject } of pending) reject(new OvsdbError(problem))
  }

  #refusal(): OvsdbError | undefined {
    if (this.#lost !== undefined) return notConnected(this.#lost.message)
    if (this.#pending.size < this.#maxPendingCalls) return undefined
    return limitReached('maxPendingCalls', `${this.#maxPendingCalls} calls wait for their answers already`)
  }

  #settle({ id, result, error }: Readonly<Record<string, unknown>>): void {
    const call = typeof id === 'number' ? this.#pending.get(id) : undefined
    if (typeof id !== 'number' || call === undefined) throw protocolError(`an answer to no request: ${excerpt(id)}`)
    this.#pending.delete(id)
    if (error === null || error === undefined) call.resolve(result)
    else call.reject(new OvsdbError(rejection(error)))
  }
}

function orReject<R>(read: () => R, reject: (error: unknown) => void): R {
  try {
    return read()
  } catch (error) {
    reject(error)
    throw error
  }
}

/** The error of a whole call: a name, or an `<error>` (RFC 7047 §4.1.3). */
function rejection(error: unknown): OvsdbProblem {
  const said = readError(isRecord(error) ? error : { error: typeof error === 'string' ? error : excerpt(error) })
  return { kind: 'rejected', ...said, operationIndex: undefined }
}

/** An answer that nobody reads is whatever it is. */
function untyped<R>(result: unknown): R {
  return result as R
}
