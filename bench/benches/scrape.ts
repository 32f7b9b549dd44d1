import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { until } from '../../test/support/until.js'
import { type Bench, type Figure, quantile, type Settings, tapNames, timed } from '../bench.js'
import { type LoopFigure, loopFigure } from '../loop-figure.js'
import { fill, type Served, withService } from '../world.js'

export const scrape: Bench = {
  name: 'scrape',
  about: 'GetTap while the counters of 5,000 taps are scraped four times a second',
  run: async settings => {
    using loopTurns = loopFigure('loop-turns')
    return await withService(settings, served => measure(settings, served, loopTurns), loopTurns.options)
  },
}

async function measure(settings: Settings, served: Served, loopTurns: LoopFigure): Promise<Figure[]> {
  const count = settings.smoke ? 20 : settings.quick ? 1_000 : 5_000
  const calls = settings.smoke ? 50 : 5_000
  const taps = tapNames(count)
  await fill(served, taps)
  const url = metricsUrl(served)
  const names = Array.from({ length: calls }, (_, i) => taps[(i * 7919) % count] ?? '')
  await untilAllAreTold(url, count)
  await latencies(served, names)
  const quiet: number[][] = []
  const scraped: number[][] = []
  const scrapes: number[] = []
  const turns: Turns = { scrapedMs: [], quietMs: [] }
  for (let round = 0; round < settings.rounds; round++) {
    quiet.push(await latencies(served, names))
    scraped.push(await whileScraped(url, scrapes, () => latencies(served, names)))
    await longestTurns(settings, served, url, loopTurns, turns)
  }
  const p = (samples: readonly number[][], share: number) => samples.map(sample => quantile(sample, share))
  const what = `scrape: GetTap with ${count} taps, 1 caller`
  const figure = (name: string, share: number): Figure => ({
    name: `${what}, ${name} while scraped / while not`,
    unit: 'ms',
    ours: p(scraped, share),
    theirs: p(quiet, share),
  })
  return [
    {
      name: `scrape: ${count} taps, longest turn of the main loop in a scrape / in a pause, CPU time`,
      unit: 'ms',
      ours: turns.scrapedMs,
      theirs: turns.quietMs,
      aim: { kind: 'value', atMost: 10 },
    },
    figure('p50', 0.5),
    { ...figure('p99', 0.99), aim: { kind: 'value', atMost: 10 } },
    figure('p99.9', 0.999),
    figure('the longest', 1),
    { name: `scrape: a scrape of ${count} taps`, unit: 'ms', ours: scrapes },
  ]
}

const scrapesPerRound = 20

/** The longest turn of the main loop in each scrape and in each pause, in processor time. */
interface Turns {
  readonly scrapedMs: number[]
  readonly quietMs: number[]
}

/** A scrape and a pause of the same length in turn, without calls: what is longer in the scrapes is theirs. */
async function longestTurns(settings: Settings, { daemon }: Served, url: string, loopTurns: LoopFigure, turns: Turns) {
  for (let i = 0; i < (settings.smoke ? 2 : scrapesPerRound); i++) {
    const scrape = await loopTurns.whileMeasured(daemon.pid, () => timed(async () => await (await fetch(url)).text()))
    turns.scrapedMs.push(scrape.ms)
    turns.quietMs.push((await loopTurns.whileMeasured(daemon.pid, () => delay(scrape.result))).ms)
  }
}

/** Where the daemon says that its metrics are. */
function metricsUrl({ daemon }: Served): string {
  const [, url] = /^ {2}metrics +(\S+)$/m.exec(daemon.stdout()) ?? []
  if (url === undefined) throw new Error(`the daemon names no metrics: ${daemon.stdout()}`)
  return url
}

/** Open vSwitch tells counters every 5 s; only then are they on the page. */
async function untilAllAreTold(url: string, count: number): Promise<void> {
  const areTold = async () => {
    const page = await (await fetch(url)).text()
    return page.split('\novs_bridged_tap_receive_bytes_total{').length > count
  }
  await until('the counters of all taps are told', areTold, { deadlineMs: 120_000, everyMs: 500 })
}

/** Scrapes four times a second in a thread of its own, each one's milliseconds into `taken`; `work` begins after the first. */
async function whileScraped<T>(url: string, taken: number[], work: () => Promise<T>): Promise<T> {
  const worker = new Worker(new URL('../scraper.js', import.meta.url), { workerData: url })
  worker.on('message', (ms: number) => taken.push(ms))
  try {
    await once(worker, 'message')
    return await work()
  } finally {
    await worker.terminate()
  }
}

/** Milliseconds of each call, one after the other. */
async function latencies({ api }: Served, taps: readonly string[]): Promise<number[]> {
  const samples: number[] = []
  for (const tap of taps) samples.push(await timed(() => api.getTap({ tap })))
  return samples
}
