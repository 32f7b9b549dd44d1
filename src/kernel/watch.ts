import { closeSync, writeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { assertNever } from '../lib/assert-never.js'
import { KernelError } from './errors.js'
import type { LinkEvent, QdiscEvent, Refusal } from './link.js'

/** What can be watched. */
export interface Topics {
  readonly links: LinkEvent
  readonly qdiscs: QdiscEvent
}

export type Topic = keyof Topics

/** The thread's `workerData`. */
export interface WatchOrder {
  readonly topic: Topic
  /** The netlink address of this Kernel's own requests. */
  readonly ownPortId: number
}

/** From the watching thread; `listening` or `unusable` comes first. */
export type WatchReply<T extends Topic = Topic> =
  | { readonly type: 'listening'; readonly stopFd: number }
  | { readonly type: 'unusable'; readonly refusal: Refusal }
  | { readonly type: 'events'; readonly events: readonly Topics[T][] }

/** As many events wait for a reader; when more come they are dropped for one `overrun`. */
const maxQueued = 8192

/**
 * The events of the calling thread's namespace, until the signal. While its thread runs, `threads` holds the promise of
 * its end.
 */
export function watchLinks(signal: AbortSignal, threads: Set<Promise<void>>): AsyncIterable<LinkEvent> {
  return watchTopic('links', 0, signal, threads)
}

/** As {@link watchLinks}, of root qdiscs. */
export function watchQdiscs(
  ownPortId: number,
  signal: AbortSignal,
  threads: Set<Promise<void>>,
): AsyncIterable<QdiscEvent> {
  return watchTopic('qdiscs', ownPortId, signal, threads)
}

async function* watchTopic<T extends Topic>(
  topic: T,
  ownPortId: number,
  signal: AbortSignal,
  threads: Set<Promise<void>>,
): AsyncGenerator<Topics[T], void, undefined> {
  if (signal.aborted) return
  const watch = new Watch(topic, ownPortId, signal)
  threads.add(watch.exited)
  void watch.exited.then(() => threads.delete(watch.exited))
  try {
    for (;;) {
      const event = await watch.next()
      if (event === undefined) return
      yield event
    }
  } finally {
    await watch.stop()
  }
}

/** Events of every topic. */
type Common = { readonly type: 'subscribed' } | { readonly type: 'overrun' }

/** One thread and the queue behind it. */
class Watch<T extends Topic> {
  readonly #worker: Worker
  readonly #topic: T
  readonly #signal: AbortSignal
  /** When the thread is gone and its descriptors are closed. */
  readonly exited: Promise<void>
  #queue: (Topics[T] | Common)[] = []
  #stopFd: number | undefined
  #state: 'running' | 'stopping' | 'over' = 'running'
  #error: KernelError | undefined
  #wake: () => void = () => {}

  constructor(topic: T, ownPortId: number, signal: AbortSignal) {
    this.#topic = topic
    this.#signal = signal
    const order: WatchOrder = { topic, ownPortId }
    this.#worker = new Worker(new URL('./watch-worker.js', import.meta.url), { workerData: order })
    this.#worker.on('message', (reply: WatchReply<T>) => {
      this.#take(reply)
    })
    this.#worker.on('error', error => {
      this.#fail(error.message)
    })
    this.exited = new Promise(resolve => {
      this.#worker.once('exit', code => {
        this.#finish(code)
        resolve()
      })
    })
    signal.addEventListener('abort', this.#requestStop, { once: true })
    // Node waits for its threads, and this one would sit in poll(2) for ever.
    process.once('exit', this.#requestStop)
  }

  /** The next event; undefined at the end. Throws KernelError when the thread failed. */
  async next(): Promise<Topics[T] | Common | undefined> {
    for (;;) {
      if (this.#state === 'stopping') return undefined
      const event = this.#queue.shift()
      if (event !== undefined) return event
      if (this.#error !== undefined) throw this.#error
      if (this.#state === 'over') return undefined
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
    }
  }

  async stop(): Promise<void> {
    this.#requestStop()
    await this.exited
  }

  readonly #requestStop = (): void => {
    if (this.#state !== 'running') return
    this.#state = 'stopping'
    if (this.#stopFd !== undefined) signalEvent(this.#stopFd)
    this.#wake()
  }

  #take(reply: WatchReply<T>): void {
    switch (reply.type) {
      case 'listening':
        this.#stopFd = reply.stopFd
        // The stop came before there was anything to stop it with.
        if (this.#state === 'stopping') signalEvent(reply.stopFd)
        this.#push([{ type: 'subscribed' }])
        return
      case 'unusable':
        this.#error = new KernelError({ kind: 'refused', operation: this.#topic, refusal: reply.refusal })
        return
      case 'events':
        this.#push(reply.events)
        return
      default:
        assertNever(reply)
    }
  }

  #push(events: readonly (Topics[T] | Common)[]): void {
    if (this.#queue.length + events.length > maxQueued) this.#queue = [{ type: 'overrun' }]
    else this.#queue.push(...events)
    this.#wake()
  }

  #fail(detail: string): void {
    this.#error ??= new KernelError({ kind: 'worker-died', operation: this.#topic, detail })
  }

  #finish(code: number): void {
    if (this.#state === 'running') this.#fail(`exit code ${code}`)
    this.#state = 'over'
    if (this.#stopFd !== undefined) closeSync(this.#stopFd)
    this.#signal.removeEventListener('abort', this.#requestStop)
    process.removeListener('exit', this.#requestStop)
    this.#wake()
  }
}

/** eventfd(2) takes eight bytes in host order. */
function signalEvent(fd: number): void {
  const one = new BigUint64Array([1n])
  writeSync(fd, one)
}
