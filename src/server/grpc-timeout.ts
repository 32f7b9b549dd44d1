/**
 * Mends how grpc-js 1.14 reads `grpc-timeout`: in 32 bits of milliseconds, so that a client which means to wait for 1,000 hours
 * is told at once that its deadline has passed. What is longer than a timer takes needs none, only its deadline.
 */
import { BaseServerInterceptingCall } from '@grpc/grpc-js/build/src/server-interceptors.js'
import { maxTimerMs } from '../lib/abort.js'

/** gRPC over HTTP/2, `TimeoutUnit`. */
const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000 }

const read: unknown = Reflect.get(BaseServerInterceptingCall.prototype, 'handleTimeoutHeader')
if (typeof read !== 'function') throw new Error('grpc-js reads grpc-timeout elsewhere by now')

Reflect.set(BaseServerInterceptingCall.prototype, 'handleTimeoutHeader', function (this: object, header: unknown) {
  const [, digits, unit = ''] = /^(\d{1,8})([HMS])$/.exec(String(header)) ?? []
  const timeoutMs = Number(digits) * (unitMs[unit] ?? 0)
  if (timeoutMs > maxTimerMs) Reflect.set(this, 'deadline', Date.now() + timeoutMs)
  else read.call(this, header)
})
