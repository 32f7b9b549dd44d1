import type { FileIdentity, PathBelow } from '../lib/safe-file.js'
import type { CaptureProblem } from './errors.js'
import type { StreamSource } from './pcapng.js'
import type { Source } from './source.js'

/** Where a capture to files ends by itself; undefined: no limit. */
export interface FileLimits {
  readonly packets: number | undefined
  /** Of the file, or of all that a ring has written. */
  readonly bytes: number | undefined
}

/** A capture goes on in a new file when one is full, and only the newest files are kept. */
export interface Ring {
  /** At least 1. */
  readonly files: number
  /** No file is larger; at least one packet and the header fit. */
  readonly fileBytes: number
  /** Name of the first file without its number: see {@link ringFileName}. */
  readonly baseName: PathBelow
}

export interface FileRequest {
  readonly source: Source
  readonly file: {
    readonly fd: number
    /** Of the folder that it is in, which stays open. */
    readonly folderFd: number
    /** Within the folder. */
    readonly name: string
    readonly identity: FileIdentity
  }
  readonly limits: FileLimits
  readonly ring: Ring | undefined
}

export interface StreamRequest {
  readonly sources: readonly StreamSource[]
  /** undefined: no limit. */
  readonly maxPackets: number | undefined
}

/** Why a capture ended. */
export type CaptureEnd =
  /** It was told to. */
  | { readonly kind: 'told' }
  | { readonly kind: 'packet-limit' }
  | { readonly kind: 'byte-limit' }
  /** All files together have reached what they may. */
  | { readonly kind: 'quota' }
  | { readonly kind: 'device-gone' }
  /** A sentence without a full stop. */
  | { readonly kind: 'failed'; readonly detail: string }

/** To the worker. */
export type ToWorker =
  | {
      readonly type: 'start-file'
      readonly id: number
      readonly request: FileRequest
      readonly board: Board
    }
  | {
      readonly type: 'start-stream'
      readonly id: number
      readonly request: StreamRequest
      /** One for each source. */
      readonly boards: readonly Board[]
      readonly unread: Int32Array
    }
  | { readonly type: 'stop'; readonly id: number }
  /** One device of a stream is no longer wanted. */
  | { readonly type: 'end-source'; readonly id: number; readonly index: number }
  /** What a `measure` has asked for is done. */
  | { readonly type: 'measured'; readonly ticket: number }
  | { readonly type: 'close' }

/** From the worker; `ready` or `unusable` comes first. */
export type FromWorker =
  | { readonly type: 'ready' }
  | { readonly type: 'unusable'; readonly problem: CaptureProblem }
  | { readonly type: 'started'; readonly id: number }
  | { readonly type: 'refused'; readonly id: number; readonly problem: CaptureProblem }
  | { readonly type: 'chunk'; readonly id: number; readonly chunk: StreamChunk }
  | { readonly type: 'ended'; readonly id: number; readonly end: CaptureEnd }
  /** The files may have reached the quota. */
  | { readonly type: 'measure'; readonly ticket: number }

/** A part of a pcapng stream. */
export interface StreamChunk {
  readonly bytes: Uint8Array
  /** Packets lost since the beginning. */
  readonly dropped: number
}

/**
 * What both threads see of a capture at any time: counters, and the addresses of what libpcap and the C library hold for it,
 * so that they can be given back when the worker has died. 0: nothing to give back. `fdTaken` is 1 from when the file's
 * descriptor is no longer its sender's to close.
 */
const places = { packets: 0, fileBytes: 1, dropped: 2, pcap: 3, dump: 4, buffer: 5, fdTaken: 6 } as const

export type Board = BigInt64Array

export function newBoard(): Board {
  return new BigInt64Array(new SharedArrayBuffer(8 * Object.keys(places).length))
}

export function readBoard(board: Board, place: keyof typeof places): bigint {
  return Atomics.load(board, places[place])
}

export function writeBoard(board: Board, place: keyof typeof places, value: bigint | number): void {
  Atomics.store(board, places[place], BigInt(value))
}
