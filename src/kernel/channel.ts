import { Worker } from 'node:worker_threads'
import { KernelError, type KernelProblem } from './errors.js'
import {
  abort,
  newStages,
  type OperationName,
  type Operations,
  stageOf,
  type WorkerAnswer,
  type WorkerMessage,
  type WorkerReply,
} from './operations.js'

/** The way to the worker thread and back. */
export interface Channel extends AsyncDisposable {
  /** The netlink address of the thread's requests. */
  readonly portId: number
  /** One round trip. Rejects with KernelError. */
  call<K extends OperationName>(
    operation: K,
    request: Operations[K]['request'],
    signal: AbortSignal,
  ): Promise<Operations[K]['reply']>
}

/** A call to the worker, of which the compiler does not know any more that operation and request belong together. */
interface Outgoing<K extends OperationName = OperationName> {
  readonly id: number
  readonly operation: K
  readonly request: Operations[K]['request']
}

interface Pending<K extends OperationName = OperationName> {
  readonly operation: K
  /** undefined: it has not been sent. */
  stage: Int32Array | undefined
  /** A method, so that one map holds the calls of every operation: an id brings back its own reply. */
  resolve(value: Operations[K]['reply']): void
  reject(error: KernelError): void
}

/** Starts the thread, which stays in the network namespace of the calling one. */
export async function openChannel(): Promise<Channel> {
  const worker = new Worker(new URL('./worker.js', import.meta.url))
  return new WorkerChannel(worker, await started(worker))
}

/** Gives the netlink address of the thread's requests. */
function started(worker: Worker): Promise<number> {
  return new Promise((resolve, reject) => {
    const release = () => worker.off('message', onMessage).off('error', onError).off('exit', onExit)
    const fail = (problem: KernelProblem) => {
      release()
      reject(new KernelError(problem))
    }
    const onMessage = (reply: WorkerReply) => {
      if (reply.type === 'unusable') fail(reply.problem)
      if (reply.type !== 'ready') return
      release()
      resolve(reply.portId)
    }
    const onError = (error: Error) => {
      fail({ kind: 'worker-died', operation: 'openKernel', detail: error.message })
    }
    const onExit = (code: number) => {
      fail({ kind: 'worker-died', operation: 'openKernel', detail: `exit code ${code}` })
    }
    worker.on('message', onMessage).on('error', onError).on('exit', onExit)
  })
}

class WorkerChannel implements Channel {
  readonly portId: number
  readonly #worker: Worker
  readonly #exited: Promise<void>
  readonly #pending = new Map<number, Pending>()
  /** Calls that go together when the thread has served those before: a message costs more than what most of them ask for. */
  #waiting: Outgoing[] = []
  #isServing = false
  #lastId = 0
  /** Why there will be no further answer. */
  #over: 'open' | 'closed' | { readonly died: string } = 'open'

  constructor(worker: Worker, portId: number) {
    this.#worker = worker
    this.portId = portId
    worker.on('message', (reply: WorkerReply) => {
      if (reply.type !== 'answers') return
      for (const answer of reply.answers) this.#settle(answer)
      if (reply.areLast) this.#sendSoon()
    })
    worker.on('error', error => {
      this.#die(error.message)
    })
    this.#exited = new Promise(resolve => {
      worker.once('exit', code => {
        this.#die(`exit code ${code}`)
        resolve()
      })
    })
    worker.unref()
  }

  call<K extends OperationName>(
    operation: K,
    request: Operations[K]['request'],
    signal: AbortSignal,
  ): Promise<Operations[K]['reply']> {
    if (this.#over !== 'open') return Promise.reject(this.#overError(operation))
    if (signal.aborted) return Promise.reject(abortedError(operation, signal.reason))
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        if (!leave(pending)) return
        this.#forget(id)
        reject(abortedError(operation, signal.reason))
      }
      const pending: Pending<K> = {
        operation,
        stage: undefined,
        resolve: value => {
          signal.removeEventListener('abort', onAbort)
          resolve(value)
        },
        reject: error => {
          signal.removeEventListener('abort', onAbort)
          reject(error)
        },
      }
      signal.addEventListener('abort', onAbort, { once: true })
      this.#pending.set(id, pending)
      this.#worker.ref()
      this.#waiting.push({ id, operation, request })
      if (!this.#isServing) this.#sendSoon()
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#over === 'open') {
      this.#over = 'closed'
      for (const [id, pending] of this.#pending) {
        if (!leave(pending)) continue
        this.#forget(id)
        pending.reject(abortedError(pending.operation, undefined))
      }
      this.#worker.ref()
      this.#post({ type: 'close' })
    }
    await this.#exited
  }

  /** When all who have been waiting for the same have asked: they go together too. */
  #sendSoon(): void {
    this.#isServing = true
    process.nextTick(() => this.#send())
  }

  #send(): void {
    const wanted = this.#waiting.flatMap(request => {
      const pending = this.#pending.get(request.id)
      return pending === undefined ? [] : [{ request, pending }]
    })
    this.#waiting = []
    this.#isServing = wanted.length > 0 && this.#over === 'open'
    if (!this.#isServing) return
    const stages = newStages(wanted.length)
    for (const [place, { pending }] of wanted.entries()) pending.stage = stageOf(stages, place)
    this.#post({ type: 'requests', requests: wanted.map(({ request }) => request), stages })
  }

  #post(message: WorkerMessage<Outgoing>): void {
    this.#worker.postMessage(message, [])
  }

  #settle(answer: WorkerAnswer): void {
    const pending = this.#pending.get(answer.id)
    if (pending === undefined) return
    this.#forget(answer.id)
    if (answer.type === 'done') pending.resolve(answer.value)
    else pending.reject(new KernelError(answer.problem))
  }

  #forget(id: number): void {
    this.#pending.delete(id)
    if (this.#pending.size === 0 && this.#over === 'open') this.#worker.unref()
  }

  #die(detail: string): void {
    if (this.#over === 'open') this.#over = { died: detail }
    for (const pending of this.#pending.values()) pending.reject(this.#overError(pending.operation))
    this.#pending.clear()
  }

  #overError(operation: OperationName): KernelError {
    if (typeof this.#over === 'object')
      return new KernelError({ kind: 'worker-died', operation, detail: this.#over.died })
    return abortedError(operation, undefined)
  }
}

/** The caller goes away; false when the answer is on its way. */
function leave({ stage }: Pick<Pending, 'stage'>): boolean {
  return stage === undefined || abort(stage)
}

function abortedError(operation: string, cause: unknown): KernelError {
  return new KernelError({ kind: 'aborted', operation }, { cause })
}
