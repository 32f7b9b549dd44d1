import { openSnoop, type Snoop, SnoopError } from '../capture/index.js'
import { sleep } from '../lib/abort.js'
import type { Change } from '../ovsdb/index.js'
import { affectedTaps } from './events.js'
import type { Host } from './host.js'
import type { OvsRows } from './ovs.js'

const retryMs = 10_000

/**
 * Has the taps' addresses learned from what passes on their devices, until it is disposed of. Resolves once frames are
 * heard, or when they cannot be: what is missing for it is told, and tried again.
 */
export async function startSnooping(host: Host): Promise<AsyncDisposable> {
  const devices = new HostDevices(host)
  const stop = new AbortController()
  const first = await open(host)
  const running = run(host, devices, first, stop.signal)
  return {
    [Symbol.asyncDispose]: async () => {
      devices[Symbol.dispose]()
      stop.abort()
      await running
    },
  }
}

async function run(host: Host, devices: HostDevices, first: Snoop | undefined, stop: AbortSignal): Promise<void> {
  let snoop = first
  while (!stop.aborted) {
    if (snoop !== undefined) await listen(host, devices, snoop, stop)
    await sleep(retryMs, stop).catch(() => undefined)
    snoop = stop.aborted ? undefined : await open(host)
  }
}

async function open(host: Host): Promise<Snoop | undefined> {
  try {
    return await openSnoop()
  } catch (error) {
    if (!(error instanceof SnoopError)) throw error
    host.notice('warn', 'the addresses of taps cannot be learned; trying again', { error })
    return undefined
  }
}

async function listen(host: Host, devices: HostDevices, snoop: Snoop, stop: AbortSignal): Promise<void> {
  const close = () => void snoop[Symbol.asyncDispose]()
  stop.addEventListener('abort', close, { once: true })
  if (stop.aborted) close()
  const told = devices.tell(indexes => snoop.setHosts(indexes))
  try {
    for await (const { frames, lost } of snoop.heard()) host.addresses.hear(frames, lost)
  } catch (error) {
    host.notice('warn', 'the addresses of taps are no longer learned; trying again', { error })
  } finally {
    told[Symbol.dispose]()
    stop.removeEventListener('abort', close)
    await snoop[Symbol.asyncDispose]()
  }
}

/** Kernel indexes of the devices of host taps, whose endpoint is the host itself. */
class HostDevices implements Disposable {
  readonly #host: Host
  readonly #indexes = new Map<string, number>()
  readonly #following: Disposable
  #listener: (indexes: readonly number[]) => void = () => {}

  constructor(host: Host) {
    this.#host = host
    this.#following = host.ovsdb.subscribe(changes => this.#follow(changes))
    for (const { record } of host.records.all()) this.#look(record.name)
  }

  [Symbol.dispose](): void {
    this.#following[Symbol.dispose]()
  }

  /** Tells the indexes at once, and again whenever they change. */
  tell(listener: (indexes: readonly number[]) => void): Disposable {
    this.#listener = listener
    listener([...this.#indexes.values()])
    return {
      [Symbol.dispose]: () => {
        this.#listener = () => {}
      },
    }
  }

  #follow(changes: readonly Change<OvsRows>[]): void {
    const names = affectedTaps(this.#host.instance, changes, this.#host.ovsdb.replica)
    const hasChanged = [...names].map(name => this.#look(name)).some(Boolean)
    if (hasChanged) this.#listener([...this.#indexes.values()])
  }

  /** Whether the device has changed. */
  #look(name: string): boolean {
    const isHost = this.#host.records.get(name)?.record.backing.kind === 'host'
    const index = isHost ? this.#host.ovsdb.replica.find('Interface', 'name', name)?.ifindex : undefined
    if (index === this.#indexes.get(name)) return false
    if (index === undefined) this.#indexes.delete(name)
    else this.#indexes.set(name, index)
    return true
  }
}
