/**
 * Tells devices from which so much comes that they would drown the others. Time is cut into windows, and in each every
 * device may be heard so many times; what goes beyond is noise until the window ends.
 */
export class Noise {
  readonly #framesPerWindow: number
  readonly #counts = new Map<number, number>()
  readonly #noisy = new Set<number>()

  constructor(framesPerWindow: number) {
    this.#framesPerWindow = framesPerWindow
  }

  /** Devices beyond their measure in this window. */
  get noisy(): ReadonlySet<number> {
    return this.#noisy
  }

  /** Counts a frame of a device; false when it is beyond the device's measure. */
  hear(device: number): boolean {
    const count = (this.#counts.get(device) ?? 0) + 1
    this.#counts.set(device, count)
    if (count <= this.#framesPerWindow) return true
    this.#noisy.add(device)
    return false
  }

  /** Begins the next window, in which all are heard again. */
  turn(): void {
    this.#counts.clear()
    this.#noisy.clear()
  }
}
