import type { QdiscSpec } from '../kernel/index.js'

/** What is to be in force on the device of a tap. */
export interface Standing {
  /** {@link noDevice} while there is none. */
  readonly index: number
  readonly mtuBytes: number
  /** Towards the endpoint; undefined: nothing. */
  readonly wanted: QdiscSpec | undefined
  /** From the endpoint; 0: nothing. */
  readonly policedKbps: number
}

/** No device has this index. */
export const noDevice = 0

/** What is to be in force on the devices of all taps: by the tap's name, and by the index of the device. */
export class Standings {
  readonly #byName = new Map<string, Standing>()
  readonly #names = new Map<number, string>()

  get(name: string): Standing | undefined {
    return this.#byName.get(name)
  }

  /** The tap of a device on which something is to be in force. */
  nameOf(index: number): string | undefined {
    return this.#names.get(index)
  }

  names(): Iterable<string> {
    return this.#byName.keys()
  }

  /** Something is to be in force; otherwise the tap is forgotten. */
  set(name: string, standing: Standing | undefined): void {
    this.#names.delete(this.#byName.get(name)?.index ?? noDevice)
    this.#byName.delete(name)
    if (standing === undefined || (standing.wanted === undefined && standing.policedKbps === 0)) return
    this.#byName.set(name, standing)
    if (standing.index !== noDevice) this.#names.set(standing.index, name)
  }
}
