import { closeSync, writeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { assertNever } from '../lib/assert-never.js'
import type { HeardFrame } from './address-message.js'

export type { AddressMessage, HeardFrame } from './address-message.js'

/** What was heard at once. */
export interface Heard {
  readonly frames: readonly HeardFrame[]
  /** Frames that endpoints have sent and that were passed over since, because too many came. */
  readonly lost: number
}

/** To the thread. Each is followed by a wake through its eventfd. */
export type SnoopOrder =
  | { readonly type: 'hosts'; readonly devices: readonly number[] }
  /** The last batch is taken in, and there is room for another. */
  | { readonly type: 'taken' }
  | { readonly type: 'stop' }

/** From the thread; `listening` or `unusable` comes first. */
export type SnoopReply =
  | { readonly type: 'listening'; readonly wakeFd: number }
  | { readonly type: 'unusable'; readonly reason: string }
  | { readonly type: 'heard'; readonly heard: Heard }

/** The packet sockets could not be opened, or their thread has ended. */
export class SnoopError extends Error {
  override readonly name = 'SnoopError'
}

/**
 * What endpoints say of their addresses, and what is said to them, on all devices of the namespace in which it was opened.
 *
 * A thread of its own reads the packet sockets. Of one device no more than some thousand frames a second are looked at, so
 * that it cannot hide what the others say; and while nobody takes what was heard, the rest waits in the kernel, which drops
 * and counts what finds no room.
 */
export interface Snoop extends AsyncDisposable {
  /** Which devices' endpoint is the host: from them, what the host sends counts. */
  setHosts(devices: readonly number[]): void
  /** Batch by batch; for one reader. Ends when it is disposed of; throws SnoopError when the thread has died. */
  heard(): AsyncGenerator<Heard, void>
}

/** Resolves once frames are heard. Throws SnoopError. */
export async function openSnoop(): Promise<Snoop> {
  const worker = new Worker(new URL('./snoop-worker.js', import.meta.url))
  const thread = new SnoopThread(worker)
  await thread.listening
  return thread
}

class SnoopThread implements Snoop {
  readonly listening: Promise<void>
  readonly #worker: Worker
  readonly #exited: Promise<void>
  #batch: Heard | undefined
  #wakeFd: number | undefined
  #state: 'running' | 'stopping' | 'over' = 'running'
  #failure: SnoopError | undefined
  #wake: () => void = () => {}

  constructor(worker: Worker) {
    this.#worker = worker
    // Node waits for its threads, and this one would sit in poll(2) for ever.
    const stop = () => this.#stop()
    process.once('exit', stop)
    this.listening = new Promise((resolve, reject) => {
      worker.on('message', (reply: SnoopReply) => {
        switch (reply.type) {
          case 'listening':
            this.#wakeFd = reply.wakeFd
            return resolve()
          case 'unusable':
            this.#failure = new SnoopError(reply.reason)
            return
          case 'heard':
            this.#batch = reply.heard
            return this.#wake()
          default:
            assertNever(reply)
        }
      })
      worker.once('exit', () => reject(this.#failure ?? new SnoopError('the snooping thread ended')))
    })
    worker.on('error', error => {
      this.#failure ??= new SnoopError(error.message, { cause: error })
    })
    this.#exited = new Promise(resolve => {
      worker.once('exit', () => {
        process.removeListener('exit', stop)
        if (this.#state === 'running') this.#failure ??= new SnoopError('the snooping thread ended')
        this.#state = 'over'
        if (this.#wakeFd !== undefined) closeSync(this.#wakeFd)
        this.#wake()
        resolve()
      })
    })
  }

  setHosts(devices: readonly number[]): void {
    this.#order({ type: 'hosts', devices })
  }

  async *heard(): AsyncGenerator<Heard, void> {
    for (;;) {
      const batch = this.#batch
      this.#batch = undefined
      if (batch !== undefined) {
        yield batch
        this.#order({ type: 'taken' })
        continue
      }
      if (this.#failure !== undefined) throw this.#failure
      if (this.#state !== 'running') return
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop()
    await this.#exited
  }

  #stop(): void {
    if (this.#state !== 'running') return
    this.#order({ type: 'stop' })
    this.#state = 'stopping'
    this.#wake()
  }

  #order(order: SnoopOrder): void {
    if (this.#state !== 'running' || this.#wakeFd === undefined) return
    this.#worker.postMessage(order)
    // eventfd(2) takes eight bytes in host order.
    writeSync(this.#wakeFd, new BigUint64Array([1n]))
  }
}
