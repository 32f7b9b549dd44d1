import type { Duration } from '../gen/google/protobuf/duration.js'
import type { Timestamp } from '../gen/google/protobuf/timestamp.js'

/** Of milliseconds since the epoch. */
export function timestamp(epochMs: number): Timestamp {
  const seconds = Math.floor(epochMs / 1_000)
  return { seconds: BigInt(seconds), nanos: Math.round((epochMs - seconds * 1_000) * 1_000_000) }
}

export function duration(ms: number): Duration {
  const seconds = Math.floor(ms / 1_000)
  return { seconds: BigInt(seconds), nanos: Math.round((ms - seconds * 1_000) * 1_000_000) }
}

export function durationMs({ seconds, nanos }: Duration): number {
  return Number(seconds) * 1_000 + nanos / 1_000_000
}
