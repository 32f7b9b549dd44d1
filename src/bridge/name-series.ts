import { formatName, type NameFormat, type PortName } from './names.js'
import { exhausted } from './problem.js'

/** Gives out names of one format, each once: two callers never get the same, whatever becomes of it. */
export class NameSeries {
  readonly #format: NameFormat
  #next = 0

  constructor(format: NameFormat) {
    this.#format = format
  }

  /**
   * The next name that `isTaken` does not object to.
   * Errors: `exhausted` when the numbers no longer fit into 15 bytes.
   */
  take(isTaken: (name: PortName) => boolean): PortName {
    for (;;) {
      const name = formatName(this.#format, this.#next++)
      if (!name.ok) throw exhausted(`no names of the form ${this.#format.prefix}%v${this.#format.suffix} are left`)
      if (!isTaken(name.value)) return name.value
    }
  }
}
