import { CaptureError } from '../capture/index.js'
import { KernelError } from '../kernel/index.js'
import { Aborted } from '../lib/abort.js'
import { assertNever } from '../lib/assert-never.js'
import { OvsdbError } from '../ovsdb/index.js'
import { BridgeError, invalid, type Problem } from './problem.js'

/**
 * What an error means to a caller of the domain, whichever room threw it: the operations let the errors of the rooms below
 * pass, and this is where they are put into the domain's terms. Undefined for anything else: a defect.
 */
export function problemOf(error: unknown): Problem | undefined {
  if (error instanceof BridgeError) return error.problem
  if (error instanceof OvsdbError) return ofOvsdb(error)
  if (error instanceof KernelError) return ofKernel(error)
  if (error instanceof CaptureError) return ofCapture(error)
  if (error instanceof Aborted) return ofAbort(error)
  return undefined
}

function ofAbort({ why, message }: Aborted): Problem {
  switch (why) {
    case 'deadline':
      return { kind: 'deadline', reason: 'DEADLINE_EXCEEDED', message }
    case 'cancelled':
      return { kind: 'cancelled', reason: 'CANCELLED', message }
    case 'shutting-down':
      return { kind: 'backend-unavailable', reason: 'SHUTTING_DOWN', message }
    default:
      return assertNever(why)
  }
}

function ofOvsdb({ problem, message }: OvsdbError): Problem {
  switch (problem.kind) {
    case 'not-connected':
    case 'lock-lost':
    case 'protocol':
    case 'limit':
    case 'schema-mismatch':
      return { kind: 'backend-unavailable', reason: 'OVSDB_UNAVAILABLE', message }
    case 'outcome-unknown':
      return { kind: 'outcome-unknown', reason: 'OUTCOME_UNKNOWN', message }
    case 'aborted-before-send':
      return { kind: 'cancelled', reason: 'CANCELLED', message }
    case 'precondition-failed':
    case 'row-vanished':
    case 'rejected':
      return { kind: 'busy', reason: 'CONFLICT', message: `the database changed under the call: ${message}` }
    case 'invalid-value': {
      const violations = [{ field: `${problem.table}.${problem.column}`, description: problem.reason }]
      return { kind: 'invalid', reason: 'INVALID_FIELD', message, violations }
    }
    default:
      return assertNever(problem)
  }
}

function ofKernel({ problem, message }: KernelError): Problem {
  switch (problem.kind) {
    case 'exists':
      return {
        kind: 'already-exists',
        reason: 'NAME_TAKEN',
        message: `${problem.device ?? 'it'} is already the name of a network device`,
      }
    case 'no-netns':
      return { kind: 'not-found', reason: 'NETNS_NOT_FOUND', message }
    case 'no-tun':
      return { kind: 'unsupported', reason: 'UNSUPPORTED', message, metadata: { remedy: 'modprobe tun' } }
    case 'no-qdisc':
      return {
        kind: 'unsupported',
        reason: 'UNSUPPORTED',
        message,
        metadata: { remedy: `modprobe sch_${problem.qdisc}` },
      }
    case 'no-device':
    case 'refused':
    case 'not-permitted':
      return { kind: 'device-refused', reason: 'DEVICE_REFUSED', message }
    case 'aborted':
      return { kind: 'cancelled', reason: 'CANCELLED', message }
    case 'worker-died':
      return { kind: 'outcome-unknown', reason: 'OUTCOME_UNKNOWN', message }
    case 'unexpected':
      return { kind: 'device-refused', reason: 'DEVICE_REFUSED', message }
    default:
      return assertNever(problem)
  }
}

function ofCapture({ problem, message }: CaptureError): Problem | undefined {
  switch (problem.kind) {
    case 'no-libpcap':
      return { kind: 'unsupported', reason: 'UNSUPPORTED', message, metadata: { remedy: 'apt-get install libpcap0.8' } }
    case 'bad-filter':
      return invalid([{ field: 'filter', description: message }]).problem
    case 'device-refused':
      return { kind: 'device-refused', reason: 'DEVICE_REFUSED', message }
    case 'exhausted':
      return { kind: 'exhausted', reason: 'EXHAUSTED', message }
    case 'closed':
      return { kind: 'backend-unavailable', reason: 'SHUTTING_DOWN', message }
    case 'worker-died':
      return { kind: 'busy', reason: 'CONFLICT', message }
    case 'unexpected':
      return undefined
    default:
      return assertNever(problem)
  }
}
