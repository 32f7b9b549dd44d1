import type { Timestamp } from '../gen/google/protobuf/timestamp.js'

/** A moment given in milliseconds since the epoch. */
export function timestamp(epochMs: number): Timestamp {
  const seconds = Math.floor(epochMs / 1_000)
  return { seconds: BigInt(seconds), nanos: Math.round((epochMs - seconds * 1_000) * 1_000_000) }
}
