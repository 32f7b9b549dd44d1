import { type Metadata, status } from '@grpc/grpc-js'
import type { Logger } from 'pino'
import { summaryOf } from './audit.js'
import { type Caller, printable } from './caller.js'
import { methodOf } from './definition.js'
import { Sparingly } from './sparingly.js'
import type { Failure } from './status.js'

/** A call that is over. */
export interface CallRecord {
  readonly kind: 'unary' | 'stream'
  readonly method: string
  /** Its name, such as `uid=0 pid=4711`. */
  readonly caller: string
  readonly code: status
  /** ErrorInfo.reason of a call that failed. */
  readonly reason: string | undefined
  readonly durationMs: number
}

export interface CallLogOptions {
  readonly log: Logger
  /** Whether what calls of a method do is recorded for good, by the method's path. */
  readonly isAudited?: (path: string) => boolean
  /** Told of every call once, when it is answered. */
  readonly onCall?: (record: CallRecord) => void
}

/** A call that has begun, and is over. */
export interface EndedCall {
  readonly kind: CallRecord['kind']
  readonly path: string
  readonly caller: string
  readonly durationMs: number
  /** As {@link CallLog.heard} tells it. */
  readonly heard?: Readonly<Record<string, unknown>>
}

/** What a call came to that was not answered as it asked. */
export interface FailedCall {
  readonly failure: Failure
  readonly cause: unknown
}

/** A call that does not run. */
export type Refused = Pick<EndedCall, 'kind' | 'path'> & { readonly caller: Caller }

/** What it was answered; what is no call of ours has no reason of ours. */
export type Refusal = Pick<Failure, 'code' | 'message'> & { readonly reason?: Failure['reason'] | undefined }

type RefusedCall = Refusal & { readonly method: string; readonly caller: Caller }

/** Tells of each call once: a line in the log, and a record for whoever counts. */
export class CallLog {
  readonly #log: Logger
  readonly #isAudited: (path: string) => boolean
  readonly #onCall: (record: CallRecord) => void
  readonly #refusals = new Sparingly(
    ({ code, ...line }: RefusedCall, refused) => {
      const told = { ...line, caller: line.caller.name, code: status[code], refused }
      if (code === status.RESOURCE_EXHAUSTED) this.#log.warn(told, 'overload')
      else this.#log.info(told, 'call refused')
    },
    ({ caller, code }) => `${code} ${caller.id}`,
  )

  constructor({ log, isAudited = () => false, onCall = () => {} }: CallLogOptions) {
    this.#log = log
    this.#isAudited = isAudited
    this.#onCall = onCall
  }

  /** What a client said of itself, and what it asked for where that is recorded for good. */
  heard(
    path: string,
    { metadata, request }: { readonly metadata: Metadata; readonly request: unknown },
  ): Readonly<Record<string, unknown>> {
    const [agent] = metadata.get('user-agent')
    const said = { agent: printable(String(agent ?? ''), 64) }
    return this.#isAudited(path) ? { ...said, audit: summaryOf(request) } : said
  }

  ended({ kind, path, caller, durationMs, heard }: EndedCall, failed: FailedCall | undefined): void {
    const code = failed?.failure.code ?? status.OK
    const method = methodOf(path)
    const line = { method, code: status[code], durationMs: Math.round(durationMs * 10) / 10, caller, ...heard }
    if (failed === undefined) this.#log.info(line, 'call')
    else {
      const { incident, badFields, reason, message } = failed.failure
      if (incident !== undefined) this.#log.error({ ...line, incident, err: failed.cause }, 'call failed by a defect')
      else this.#log.info({ ...line, reason, ...(badFields ? { badFields } : { message }) }, 'call refused')
    }
    this.#onCall({ kind, method, caller, code, reason: failed?.failure.reason, durationMs })
  }

  /** Of a request that does not run. In the log those of one caller and code are one line a second. */
  refused({ kind, path, caller }: Refused, { code, reason, message }: Refusal): void {
    const method = methodOf(path)
    this.#refusals.tell({ method, code, reason, message, caller })
    this.#onCall({ kind, method, caller: caller.name, code, reason, durationMs: 0 })
  }

  /** Tells of refused requests that wait for their second to be over: for the end. */
  flush(): void {
    this.#refusals.flush()
  }
}
