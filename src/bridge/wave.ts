import { setImmediate as otherWork } from 'node:timers/promises'
import { raceAbort } from '../lib/abort.js'

/** A call's place in a wave, until it is disposed of. */
export type Place = Disposable

interface Wave {
  readonly beganMs: number
  /** Runs out when the transaction waits no more. */
  patience: NodeJS.Timeout | undefined
  isPatient: boolean
  readonly places: Places
  /** Resolves when those have come who come one upon the other. */
  readonly gathered: Promise<void>
}

interface Places {
  /** That were taken. */
  taken: number
  /** Of these, the ones that are still held. */
  held: number
}

/** Places in one wave: what they make goes in one transaction. */
const maxPlaces = 512

/** How long a wave takes calls, and how long its transaction waits for the next of their devices. */
const defaultGatherMs = 100

/** Turns of the event loop without anybody who comes: then the devices of those who have are made. */
const quietTurns = 3

/** How often that, at most, it waits for all of them. */
const maxGathers = 10

/**
 * Calls that make devices together for one transaction. Each device's events cost ovs-vswitchd a walk over all its ports, and
 * so does the transaction; what comes while it walks shares the next walk. Devices that trickle in keep it walking. So those
 * who come while a change is under way wait, make their devices at one time, and then go together. So do those who come one upon
 * the other, as callers do who have been answered at one time.
 *
 * A transaction waits for as long as any place in its wave is held, but not when for `gatherMs` none has been given up: who calls
 * alone waits for nobody, and who is slow holds nobody up for long.
 */
export class Waves {
  readonly #isUnderWay: () => boolean
  readonly #onGathered: () => void
  readonly #waiting = new Set<() => void>()
  readonly #gatherMs: number
  #wave: Wave | undefined

  /**
   * `isUnderWay`: a change that ovs-vswitchd must act on is sent or being applied. `onGathered` is called when the next transaction
   * need not wait any more.
   */
  constructor(isUnderWay: () => boolean, onGathered: () => void, gatherMs = defaultGatherMs) {
    this.#gatherMs = gatherMs
    this.#isUnderWay = isUnderWay
    this.#onGathered = onGathered
  }

  /** Whether the next transaction waits for calls that have a place. */
  get isGathering(): boolean {
    return this.#wave !== undefined && this.#wave.places.held > 0 && this.#wave.isPatient
  }

  /** Waits until devices are to be made for a transaction that takes more. Throws when the signal aborts before it has a place. */
  async join(signal: AbortSignal): Promise<Place> {
    while (!this.#isOpen()) await this.#turn(signal)
    const wave = (this.#wave ??= this.#begin())
    wave.places.taken++
    wave.places.held++
    let isHeld = true
    await wave.gathered
    return {
      [Symbol.dispose]: () => {
        if (!isHeld) return
        isHeld = false
        wave.places.held--
        if (wave === this.#wave) this.#carryOn(wave)
      },
    }
  }

  /** The wave is over: its transaction leaves, with those who are ready. */
  depart(): void {
    clearTimeout(this.#wave?.patience)
    this.#wave = undefined
  }

  /** Nothing is under way any more: who waits goes on. */
  proceed(): void {
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const goOn of waiting) goOn()
  }

  /** After a place was given up. */
  #carryOn(wave: Wave): void {
    if (wave.places.held === 0) this.#onGathered()
    else if (performance.now() < wave.beganMs + (maxGathers - 1) * this.#gatherMs) this.#waitLonger(wave)
  }

  #waitLonger(wave: Wave): void {
    clearTimeout(wave.patience)
    wave.patience = setTimeout(() => {
      wave.isPatient = false
      this.#onGathered()
    }, this.#gatherMs).unref()
  }

  #isOpen(): boolean {
    if (this.#isUnderWay()) return false
    if (this.#wave === undefined) return true
    return this.#wave.places.taken < maxPlaces && performance.now() < this.#wave.beganMs + this.#gatherMs
  }

  #begin(): Wave {
    const places = { taken: 0, held: 0 }
    const gathered = gather(places)
    const wave: Wave = { beganMs: performance.now(), patience: undefined, isPatient: true, places, gathered }
    // Nobody can be done before.
    void gathered.then(() => this.#waitLonger(wave))
    return wave
  }

  async #turn(signal: AbortSignal): Promise<void> {
    let goOn = () => {}
    const turn = new Promise<void>(resolve => {
      goOn = resolve
    })
    this.#waiting.add(goOn)
    await raceAbort(turn, signal).finally(() => this.#waiting.delete(goOn))
  }
}

async function gather(places: Readonly<Places>): Promise<void> {
  let quiet = 0
  let taken = 0
  while (quiet < quietTurns) {
    await otherWork()
    quiet = places.taken === taken ? quiet + 1 : 0
    taken = places.taken
  }
}
