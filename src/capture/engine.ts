import { closeSync } from 'node:fs'
import { CaptureThread, type RunningCapture } from './capture-thread.js'
import { CaptureError } from './errors.js'
import type { CaptureEnd, FileRequest, StreamChunk, StreamRequest } from './messages.js'
import { type CaptureStore, Quota } from './quota.js'

/** Captures of network devices of the namespace in which the first was started. */
export interface CaptureEngine extends AsyncDisposable {
  /** Whether the quota leaves room for anything, by a measurement if it seems not to. */
  hasRoom(): Promise<boolean>
  /**
   * Resolves when packets are being taken. The file's `fd` is closed by the engine, whatever becomes of it. Throws
   * CaptureError.
   */
  start(request: FileRequest): Promise<RunningCapture>
  /**
   * pcapng, chunk by chunk, until all devices are gone or the limit is reached; rejects with the signal's reason.
   * A reader that is slow makes the kernel drop packets, which the stream tells of. A device also counts as gone when the
   * signal in its place of `gone` aborts. Throws CaptureError.
   */
  stream(
    request: StreamRequest,
    gone: readonly AbortSignal[],
    signal: AbortSignal,
  ): AsyncGenerator<StreamChunk, CaptureEnd>
}

/** Starts no thread before there is something to capture, and a new one when the last has died. */
export function openCaptureEngine(store: CaptureStore): CaptureEngine {
  let thread: Promise<CaptureThread> | undefined
  const quota = new Quota(store)
  let lastId = 0
  let closed = false
  const running = async (): Promise<CaptureThread> => {
    if (closed) throw new CaptureError({ kind: 'closed' })
    const forget = () => {
      thread = undefined
    }
    thread ??= openThread(quota, forget)
    return await thread.catch((error: unknown) => {
      forget()
      throw error
    })
  }
  return {
    hasRoom: () => quota.hasRoom(),
    start: async request => {
      const opened = await running().catch((error: unknown) => {
        closeSync(request.file.fd)
        throw error
      })
      return await opened.startFile(++lastId, request)
    },
    stream: async function* (request, gone, signal) {
      return yield* (await running()).stream(++lastId, request, gone, signal)
    },
    [Symbol.asyncDispose]: async () => {
      closed = true
      await (await thread?.catch(() => undefined))?.close()
    },
  }
}

async function openThread(quota: Quota, onExit: () => void): Promise<CaptureThread> {
  const thread = new CaptureThread(quota, onExit)
  await thread.ready
  return thread
}
