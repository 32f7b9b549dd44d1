import { type Metadata, type ServerInterceptingCallInterface, status } from '@grpc/grpc-js'
import { BridgeError, type Problem } from '../bridge/problem.js'
import { cancelled, deadlineExceeded, shuttingDown } from '../lib/abort.js'
import { type Failure, failure } from './status.js'

const refusal = (problem: Problem) => failure(new BridgeError(problem))
const exhausted = (message: string) => refusal({ kind: 'exhausted', reason: 'EXHAUSTED', message })

/** Made once: in a flood it is refusals that have to be cheap. Whoever does not belong learns no more than that. */
export const refusals = {
  connections: exhausted('too many connections'),
  rate: exhausted('too many calls a second on this connection'),
  connection: exhausted('too much at once on this connection'),
  all: exhausted('too much at once'),
  tooLarge: exhausted('the message is larger than the server takes'),
  tooSlow: refusal({
    kind: 'deadline',
    reason: 'DEADLINE_EXCEEDED',
    message: 'the request did not arrive in time',
  }),
  deadline: failure(deadlineExceeded()),
  gone: failure(cancelled()),
  shuttingDown: failure(shuttingDown()),
  unreadable: refusal({
    kind: 'invalid',
    reason: 'INVALID_FIELD',
    message: 'the request is not an encoded message of its type',
    violations: [],
  }),
  unauthenticated: refusal({ kind: 'unauthenticated', reason: 'UNAUTHENTICATED', message: 'not authenticated' }),
  notPermitted: refusal({ kind: 'not-permitted', reason: 'PERMISSION_DENIED', message: 'not permitted' }),
} satisfies Record<string, Failure>

type SentStatus = Parameters<ServerInterceptingCallInterface['sendStatus']>[0]

/** What we say where grpc-js says something of its own; undefined: what was sent stands. */
export function complaint({ code, details, metadata }: SentStatus): Failure | undefined {
  if (isOurs(metadata)) return undefined
  if (code === status.DEADLINE_EXCEEDED) return refusals.deadline
  if (code === status.RESOURCE_EXHAUSTED) return refusals.tooLarge
  const isUnreadable = code === status.INTERNAL && unreadable.some(beginning => details.startsWith(beginning))
  return isUnreadable ? refusals.unreadable : undefined
}

function isOurs(metadata: Metadata | null | undefined): boolean {
  return (metadata?.get('grpc-status-details-bin').length ?? 0) > 0
}

/** grpc-js, server-interceptors.ts. */
const unreadable = ['Error deserializing request', 'Failed to decompress message', 'Invalid grpc-timeout value']
