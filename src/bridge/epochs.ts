import type { OvsClient, OvsReplica } from './ovs.js'
import { rootOf } from './ovs.js'

/**
 * What ovs-vswitchd was asked to apply, and has: a change raises `next_cfg`, and `cur_cfg` follows
 * (ovs-vswitchd.conf.db(5), Open_vSwitch).
 */
export class Epochs {
  readonly #ovsdb: OvsClient
  readonly #lifetime: AbortSignal
  readonly #onReached: () => void
  /** The last that was asked for, while it is not reached. */
  #pending: bigint | undefined
  /** The last that changes each name, while not all are reached. */
  readonly #ofNames = new Map<string, bigint>()
  /** What stood when the connection came, while it is not reached: of an earlier daemon, or of a transaction cut off. */
  #inherited: bigint | undefined

  /** `onReached` is called when all that was asked for is reached. */
  constructor(ovsdb: OvsClient, lifetime: AbortSignal, onReached: () => void) {
    this.#ovsdb = ovsdb
    this.#lifetime = lifetime
    this.#onReached = onReached
    this.#inherit()
    const following = ovsdb.onStatus(() => this.#inherit())
    lifetime.addEventListener('abort', () => following[Symbol.dispose](), { once: true })
  }

  get isPending(): boolean {
    return this.#pending !== undefined
  }

  /** Notes an epoch that was committed, with the names that it changes. */
  asked(epoch: bigint, names: readonly string[]): void {
    for (const name of names) this.#ofNames.set(name, epoch)
    const isFollowed = this.isPending
    this.#pending = epoch
    // The daemon's end ends the wait too.
    if (!isFollowed) this.#follow().catch(() => undefined)
  }

  /** Resolves when ovs-vswitchd has applied the epoch. */
  async reached(epoch: bigint, signal: AbortSignal): Promise<void> {
    await this.#ovsdb.waitFor(replica => (hasReached(replica, epoch) ? true : undefined), signal)
  }

  /** Resolves when ovs-vswitchd has applied what was committed of these names, by this daemon or one before it. */
  async reachedOf(names: Iterable<string>, signal: AbortSignal): Promise<void> {
    this.#forgetInherited()
    const epochs = new Set<bigint>()
    for (const name of names) {
      const epoch = this.#ofNames.get(name) ?? this.#inherited
      if (epoch !== undefined) epochs.add(epoch)
    }
    for (const epoch of epochs) await this.reached(epoch, signal)
  }

  /** One wait for all: epochs may be asked for faster than they are reached. */
  async #follow(): Promise<void> {
    const isReached = (replica: OvsReplica) =>
      this.#pending === undefined || hasReached(replica, this.#pending) ? true : undefined
    do await this.#ovsdb.waitFor(isReached, this.#lifetime)
    while (isReached(this.#ovsdb.replica) === undefined)
    this.#pending = undefined
    this.#ofNames.clear()
    this.#onReached()
  }

  #forgetInherited(): void {
    if (this.#inherited !== undefined && hasReached(this.#ovsdb.replica, this.#inherited)) this.#inherited = undefined
  }

  #inherit(): void {
    const root = this.#ovsdb.status.state === 'ready' ? rootOf(this.#ovsdb.replica) : undefined
    if (root !== undefined) this.#inherited = BigInt(root.next_cfg)
  }
}

/** A `next_cfg` below the epoch means that the database was made anew: that epoch will never come. */
function hasReached(replica: OvsReplica, epoch: bigint): boolean {
  const root = rootOf(replica)
  return root !== undefined && (root.cur_cfg >= epoch || root.next_cfg < epoch)
}
