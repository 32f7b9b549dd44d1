import { setImmediate as otherWork } from 'node:timers/promises'
import type { Registry } from 'prom-client'
import { inTurns } from '../lib/turns.js'

/** A page in Prometheus' text format. */
export interface Page {
  /** As long as somebody holds the page. */
  readonly slices: readonly Buffer[]
  /** Before anything else is awaited; dispose of it when the page is read. */
  hold(): Disposable
}

const sliceBytes = 64 * 1024

/** 8 MiB: the page of 14,000 taps. */
const mostSpare = 128

/** UTF-8 of one unit of UTF-16: RFC 3629. */
const mostBytesPerUnit = 3

/**
 * Writes pages into buffers that are used again once their page is read: megabytes of new ones for each scrape would have
 * the garbage collector go over the whole heap every few scrapes.
 */
export class Pages {
  readonly #spare: Buffer[] = []

  /** The registries one after the other, and then the lines; other work goes first every millisecond. */
  async render(registries: readonly Registry[], lines: () => Iterable<string>): Promise<Page> {
    const slices: Buffer[] = []
    for (const registry of registries) {
      slices.push(Buffer.from(await registry.metrics()))
      await otherWork()
    }
    const written: Buffer[] = []
    let used = sliceBytes
    const cut = () => {
      const last = written.at(-1)
      if (last !== undefined) slices.push(last.subarray(0, used))
    }
    // Each line is written at once: strings that are kept until they are joined are copied by the garbage collector.
    await inTurns(lines(), line => {
      const mostBytes = line.length * mostBytesPerUnit
      let buffer = written.at(-1)
      if (buffer === undefined || used + mostBytes > buffer.length) {
        cut()
        buffer = mostBytes > sliceBytes ? Buffer.allocUnsafeSlow(mostBytes) : this.#take()
        written.push(buffer)
        used = 0
      }
      used += buffer.write(line, used)
    })
    cut()
    return this.#page(slices, written)
  }

  #take(): Buffer {
    return this.#spare.pop() ?? Buffer.allocUnsafeSlow(sliceBytes)
  }

  #page(slices: readonly Buffer[], written: readonly Buffer[]): Page {
    let holders = 0
    return {
      slices,
      hold: () => {
        holders++
        return {
          [Symbol.dispose]: () => {
            if (--holders === 0) this.#giveBack(written)
          },
        }
      },
    }
  }

  #giveBack(buffers: readonly Buffer[]): void {
    for (const buffer of buffers) {
      if (buffer.length === sliceBytes && this.#spare.length < mostSpare) this.#spare.push(buffer)
    }
  }
}
