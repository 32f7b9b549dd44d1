import { notConnected, OvsdbError, type OvsdbProblem, protocolError } from './errors.js'
import { excerpt, isArray, isRecord, type Json } from './json.js'

/** A message that asks for no answer (JSON-RPC 1.0; RFC 7047 §4.1.4 and on). */
export interface Notification {
  readonly method: string
  readonly params: readonly unknown[]
}

interface PendingCall {
  readonly resolve: (result: unknown) => void
  readonly reject: (error: OvsdbError) => void
}

/** The JSON-RPC 1.0 conversation on one connection (RFC 7047 §4). Answers the server's echo requests by itself. */
export class Rpc {
  readonly #send: (message: Json) => void
  readonly #onNotification: (notification: Notification) => void
  readonly #pending = new Map<number, PendingCall>()
  #lastId = 0
  #lost: OvsdbProblem | undefined

  constructor(send: (message: Json) => void, onNotification: (notification: Notification) => void) {
    this.#send = send
    this.#onNotification = onNotification
  }

  /** Rejects with `rejected` when the server answers with an error, or with whatever {@link lose} is told. */
  request(method: string, params: readonly Json[]): Promise<unknown> {
    if (this.#lost !== undefined) return Promise.reject(notConnected(this.#lost.message))
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject })
      this.#send({ method, params, id })
    })
  }

  /** Takes in one message. Throws `protocol` when it is none. */
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

  #settle({ id, result, error }: Readonly<Record<string, unknown>>): void {
    const call = typeof id === 'number' ? this.#pending.get(id) : undefined
    if (typeof id !== 'number' || call === undefined) throw protocolError(`an answer to no request: ${excerpt(id)}`)
    this.#pending.delete(id)
    if (error === null || error === undefined) call.resolve(result)
    else call.reject(new OvsdbError(rejection(error)))
  }
}

/** The error of a whole call: a name, or an `<error>` (RFC 7047 §4.1.3). */
function rejection(error: unknown): OvsdbProblem {
  const name = isRecord(error) ? String(error['error']) : typeof error === 'string' ? error : excerpt(error)
  const details = isRecord(error) && typeof error['details'] === 'string' ? error['details'] : undefined
  const message = details === undefined ? name : `${name}: ${details}`
  return { kind: 'rejected', message, error: name, details, operationIndex: undefined }
}

/** What `JSON.parse` has made is JSON. */
function asJson(parsed: unknown): Json {
  return parsed as Json
}
