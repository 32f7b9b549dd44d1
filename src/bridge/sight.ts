import type { Link } from '../kernel/index.js'
import type { Call } from './call.js'
import type { Host } from './host.js'

/** The devices as they were last seen: to list thousands takes a good part of a second. */
export class Sight {
  readonly #host: Host
  #links: Promise<readonly Link[]> | undefined

  constructor(host: Host) {
    this.#host = host
  }

  links(call: Call): Promise<readonly Link[]> {
    this.#links ??= this.#host.kernel.listLinks(call.signal)
    return this.#links
  }

  /** They have changed since, or could not be listed: who asks next looks again. */
  forget(): void {
    this.#links = undefined
  }
}
