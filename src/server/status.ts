import { randomBytes } from 'node:crypto'
import { Metadata, status } from '@grpc/grpc-js'
import type { Problem, Reason, Violation } from '../bridge/problem.js'
import { problemOf } from '../bridge/problem-of.js'
import type { Any } from '../gen/google/protobuf/any.js'
import { BadRequest, ErrorInfo } from '../gen/google/rpc/error_details.js'
import { Status } from '../gen/google/rpc/status.js'

/** The domain of every google.rpc.ErrorInfo that we send. */
const errorDomain = 'ovs-bridged'

/** The gRPC status code of each kind of problem. The only such map. */
const codes = {
  invalid: status.INVALID_ARGUMENT,
  'not-found': status.NOT_FOUND,
  'already-exists': status.ALREADY_EXISTS,
  'not-owned': status.FAILED_PRECONDITION,
  'in-use': status.FAILED_PRECONDITION,
  unsupported: status.FAILED_PRECONDITION,
  busy: status.ABORTED,
  exhausted: status.RESOURCE_EXHAUSTED,
  'backend-unavailable': status.UNAVAILABLE,
  'outcome-unknown': status.UNKNOWN,
  'not-realised': status.FAILED_PRECONDITION,
  'device-refused': status.FAILED_PRECONDITION,
  'file-refused': status.FAILED_PRECONDITION,
  deadline: status.DEADLINE_EXCEEDED,
  cancelled: status.CANCELLED,
  unauthenticated: status.UNAUTHENTICATED,
  'not-permitted': status.PERMISSION_DENIED,
} satisfies Record<Problem['kind'], status>

/** Headers must stay below the 8 KiB that gRPC clients accept by default, so long texts and lists are cut. */
const maxMessageBytes = 1_024
const maxViolations = 16
const maxViolationBytes = 160
const maxViolationsBytes = 3_000
const maxMetadataBytes = 256

/** A failed call, as it goes to the client and into the log. */
export interface Failure {
  readonly code: status
  readonly reason: Reason | 'INTERNAL'
  /** What the client reads. */
  readonly message: string
  /** Trailers: `grpc-status-details-bin` with ErrorInfo and, for bad input, BadRequest. */
  readonly metadata: Metadata
  /** Stands in the client's message and in the log line of a defect. */
  readonly incident?: string
  /** The fields of bad input: the log names them, and the message, which shows what stands in them, is left to the client. */
  readonly badFields?: readonly string[]
}

/**
 * The answer to a call that threw `error`. What the domain knows as a problem speaks for itself; everything else is a
 * defect of ours, of which the client learns nothing but an id to look for in the log.
 */
export function failure(error: unknown): Failure {
  const problem = problemOf(error)
  if (problem !== undefined) return told(problem)
  const incident = randomBytes(6).toString('hex')
  const message = `internal error ${incident}; the log of ovs-bridged has the cause`
  const details = [errorInfo('INTERNAL', { incident })]
  return {
    code: status.INTERNAL,
    reason: 'INTERNAL',
    message,
    metadata: statusDetails(status.INTERNAL, message, details),
    incident,
  }
}

function told(problem: Problem): Failure {
  const code = codes[problem.kind]
  const message = headerText(problem.message, maxMessageBytes, encodedBytes)
  const details = [errorInfo(problem.reason, problem.metadata ?? {})]
  if (problem.kind === 'invalid') details.push(badRequest(problem.violations))
  const failed = { code, reason: problem.reason, message, metadata: statusDetails(code, message, details) }
  if (problem.kind !== 'invalid' || problem.violations.length === 0) return failed
  const badFields = problem.violations.slice(0, maxViolations).map(({ field }) => headerText(field, maxViolationBytes))
  return { ...failed, badFields }
}

function errorInfo(reason: Reason | 'INTERNAL', metadata: Readonly<Record<string, string>>): Any {
  const short = Object.entries(metadata).map(([key, value]) => [key, headerText(value, maxMetadataBytes)] as const)
  const info: ErrorInfo = { reason, domain: errorDomain, metadata: Object.fromEntries(short) }
  return { typeUrl: 'type.googleapis.com/google.rpc.ErrorInfo', value: Buffer.from(ErrorInfo.encode(info).finish()) }
}

function badRequest(violations: readonly Violation[]): Any {
  const texts = violations.slice(0, maxViolations).map(({ field, description }) => ({
    field: headerText(field, maxViolationBytes),
    description: headerText(description, maxViolationBytes),
  }))
  let bytes = 0
  const fitting = texts.filter(({ field, description }) => {
    bytes += utf8Bytes(field) + utf8Bytes(description)
    return bytes <= maxViolationsBytes
  })
  const fieldViolations = fitting.map(text => ({ ...text, reason: '', localizedMessage: undefined }))
  const value = Buffer.from(BadRequest.encode({ fieldViolations }).finish())
  return { typeUrl: 'type.googleapis.com/google.rpc.BadRequest', value }
}

/** `grpc-status-details-bin`, as in gRPC's richer error model: a google.rpc.Status with the same code and message. */
function statusDetails(code: status, message: string, details: Any[]): Metadata {
  const metadata = new Metadata()
  metadata.set('grpc-status-details-bin', Buffer.from(Status.encode({ code, message, details }).finish()))
  return metadata
}

/** At most `maxBytes`, and no lone surrogate: grpc-js runs `encodeURI` over the message, which throws at one. */
function headerText(text: string, maxBytes: number, bytesOf = utf8Bytes): string {
  const short = text.slice(0, maxBytes).replace(/\p{Surrogate}/gu, '\ufffd')
  if (text.length <= maxBytes && bytesOf(short) <= maxBytes) return short
  let left = maxBytes - bytesOf('…')
  let cut = ''
  for (const character of short) {
    left -= bytesOf(character)
    if (left < 0) break
    cut += character
  }
  return `${cut}…`
}

const utf8Bytes = (text: string) => Buffer.byteLength(text)

/** As `grpc-message` has it, where most of what is not ASCII takes three times as much. */
const encodedBytes = (text: string) => encodeURI(text).length
