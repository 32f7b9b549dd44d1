import type { Link } from '../kernel/index.js'
import type { Call } from './call.js'
import type { Host } from './host.js'

/** The devices as they were last seen: to list thousands takes a good part of a second. */
export class Sight {
  readonly #host: Host
  readonly #call: Call
  #links: Promise<readonly Link[]> | undefined

  constructor(host: Host, call: Call) {
    this.#host = host
    this.#call = call
  }

  links(): Promise<readonly Link[]> {
    this.#links ??= this.#host.kernel.listLinks(this.#call.signal)
    return this.#links
  }

  /** They have changed since: who asks next looks again. */
  isOver(): void {
    this.#links = undefined
  }
}
