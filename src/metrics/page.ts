import { setImmediate as otherWork } from 'node:timers/promises'
import type { Registry } from 'prom-client'

/** How long rendering may hold the thread at a time, so that no call waits for it noticeably. */
const sliceMs = 1

/** More pieces than this are not made without a look at the clock. */
const piecesPerLook = 64

/** Joins pieces of text as they are made, and lets other work go first every millisecond. */
export async function inSlices(pieces: Iterable<string>): Promise<Buffer[]> {
  const slices: Buffer[] = []
  let text = ''
  let count = 0
  let sliceAt = performance.now()
  for (const piece of pieces) {
    text += piece
    if (++count % piecesPerLook !== 0 || performance.now() - sliceAt < sliceMs) continue
    slices.push(Buffer.from(text))
    text = ''
    await otherWork()
    sliceAt = performance.now()
  }
  slices.push(Buffer.from(text))
  return slices
}

/** The registries one after the other, and then the lines, as one page in Prometheus' text format. */
export async function renderPage(registries: readonly Registry[], lines: () => Iterable<string>): Promise<Buffer[]> {
  const slices: Buffer[] = []
  for (const registry of registries) {
    slices.push(Buffer.from(await registry.metrics()))
    await otherWork()
  }
  return [...slices, ...(await inSlices(lines()))]
}
