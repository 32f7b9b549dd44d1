import { setTimeout as delay } from 'node:timers/promises'
import { type Bench, type Figure, type Settings, tapNames } from '../bench.js'
import { cpuMs, residentMib } from '../usage.js'
import { fill, type Served, withService } from '../world.js'

/** 150 MB. */
const maxMib = 143

export const idle: Bench = {
  name: 'idle',
  about: 'what the service uses for 2,000 taps when nobody asks it for anything',
  run: settings => withService(settings, served => measure(settings, served)),
}

async function measure(settings: Settings, served: Served): Promise<Figure[]> {
  const count = settings.smoke ? 20 : 2_000
  const windowMs = settings.smoke ? 1_000 : 60_000
  const { pid } = served.daemon
  await fill(served, tapNames(count))
  // The last of what came of filling.
  await delay(settings.smoke ? 0 : 10_000)
  const cpu: number[] = []
  const memory: number[] = []
  for (let round = 0; round < settings.rounds; round++) {
    const before = { cpuMs: cpuMs(pid), atMs: performance.now() }
    await delay(windowMs)
    cpu.push(((cpuMs(pid) - before.cpuMs) / (performance.now() - before.atMs)) * 100)
    memory.push(residentMib(pid))
  }
  const what = `idle: ${count} taps`
  return [
    { name: `${what}, cpu`, unit: '% of a core', ours: cpu, aim: { kind: 'value', atMost: 1 } },
    { name: `${what}, resident memory`, unit: 'MiB', ours: memory, aim: { kind: 'value', atMost: maxMib } },
  ]
}
