import { setImmediate as otherWork } from 'node:timers/promises'
import type { Registry } from 'prom-client'
import { inTurns } from '../lib/turns.js'

/** Joins pieces of text as they are made, and lets other work go first every millisecond. */
export async function inSlices(pieces: Iterable<string>): Promise<Buffer[]> {
  const slices: Buffer[] = []
  let text = ''
  const cut = () => {
    slices.push(Buffer.from(text))
    text = ''
  }
  await inTurns(
    pieces,
    piece => {
      text += piece
    },
    cut,
  )
  cut()
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
