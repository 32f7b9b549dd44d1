/** Runs benches and writes down what came of them: see docs/performance.md. */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { attacks as attackKinds } from '../test/support/attackers.js'
import { within } from '../test/support/until.js'
import type { Bench, Figure, Settings } from './bench.js'
import { arp } from './benches/arp.js'
import { attacks } from './benches/attacks.js'
import { capture } from './benches/capture.js'
import { createMany } from './benches/create-many.js'
import { createPar } from './benches/create-par.js'
import { createSeq } from './benches/create-seq.js'
import { destroy } from './benches/destroy.js'
import { fanout } from './benches/fanout.js'
import { growth } from './benches/growth.js'
import { idle } from './benches/idle.js'
import { netflow } from './benches/netflow.js'
import { ovsdbLoad } from './benches/ovsdb-load.js'
import { ovsdbTxn } from './benches/ovsdb-txn.js'
import { read } from './benches/read.js'
import { restart } from './benches/restart.js'
import { scrape } from './benches/scrape.js'
import { growthPlot } from './plot.js'
import { pageOf, type Result, resultOf, tableOf, thisMachine } from './report.js'

const benches: readonly Bench[] = [
  createSeq,
  createPar,
  createMany,
  destroy,
  growth,
  read,
  restart,
  idle,
  fanout,
  arp,
  scrape,
  netflow,
  capture,
  ovsdbLoad,
  ovsdbTxn,
  attacks,
]

const usage = `npm run bench -- [NAME…] [--quick] [--smoke] [--rounds N] [--profile DIRECTORY] [--attack KIND]…

${benches.map(({ name, about }) => `  ${name.padEnd(12)}${about}`).join('\n')}

KIND, of the bench of attacks: ${attackKinds.join(' ')}
`

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      help: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      smoke: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      profile: { type: 'string' },
      attack: { type: 'string', multiple: true, default: [] },
      // Given by scripts/bench.
      record: { type: 'string' },
    },
  })
  const attacked = attackKinds.filter(kind => values.attack.includes(kind))
  const unknown = [
    ...positionals.filter(name => !benches.some(bench => bench.name === name)),
    ...values.attack.filter(kind => !attackKinds.some(known => known === kind)),
  ]
  const rounds = Number(values.rounds ?? (values.smoke ? 1 : 3))
  if (values.help || unknown.length > 0 || !Number.isInteger(rounds) || rounds < 1) {
    process.stderr.write(unknown.length > 0 ? `no bench or attack ${unknown.join(', ')}\n\n${usage}` : usage)
    return values.help ? 0 : 2
  }
  const { signal } = new AbortController()
  const settings = {
    smoke: values.smoke,
    // A few attacks replace what the record says of these alone.
    quick: values.quick || attacked.length > 0,
    rounds,
    profileDirectory: values.profile,
    attacks: attacked,
    signal,
  }
  const named = attacked.length > 0 ? [...positionals, attacks.name] : positionals
  const chosen = benches.filter(({ name }) => named.length === 0 || named.includes(name))
  // A tiny or profiled run says nothing about times.
  const counts = !settings.smoke && settings.profileDirectory === undefined
  const machine = thisMachine(versionOfOpenVswitch())
  for (const bench of chosen) {
    const startedAt = performance.now()
    const figures = await within(bench.name, longestMs(settings), bench.run(settings))
    const results = figures.map(figure => resultOf(settings.smoke ? withoutAim(figure) : figure, machine))
    const tookS = Math.round((performance.now() - startedAt) / 1_000)
    process.stdout.write(`--- ${bench.name}, ${tookS} s\n${tableOf(results)}\n`)
    if (counts && values.record !== undefined) keep(values.record, bench, results, settings)
  }
  return 0
}

/** Nothing takes so long: a bench that hangs fails. */
function longestMs({ smoke, rounds }: Settings): number {
  return smoke ? 900_000 : rounds * 3_600_000
}

function withoutAim({ name, unit, ours, theirs }: Figure): Figure {
  return { name, unit, ours, ...(theirs !== undefined && { theirs }) }
}

/**
 * Replaces what the record says of a bench, but after a quick run, which leaves some figures out, only the same ones. What it
 * says of a bench that is no more goes.
 */
function keep(path: string, bench: Bench, results: readonly Result[], { quick }: Settings): void {
  const measured = new Set(results.map(result => result.name))
  const isReplaced = ({ name }: Result) => measured.has(name) || (!quick && name.startsWith(`${bench.name}:`))
  const kept = recordAt(path).filter(result => placeOf(result) >= 0 && !isReplaced(result))
  const all = [...kept, ...results].sort((a, b) => placeOf(a) - placeOf(b))
  writeFileSync(path, `${JSON.stringify(all, null, 2)}\n`)
  // As it stands there: JSON has no NaN.
  writeFileSync(join(dirname(path), 'latest.md'), pageOf(recordAt(path)))
  const plot = growthPlot(all)
  if (plot !== undefined) writeFileSync(join(dirname(path), 'growth.svg'), plot)
}

function recordAt(path: string): readonly Result[] {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as readonly Result[]
  } catch {
    return []
  }
}

function placeOf({ name }: Result): number {
  return benches.findIndex(bench => name.startsWith(`${bench.name}:`))
}

function versionOfOpenVswitch(): string {
  return /\d+\.\d+\.\d+/.exec(execFileSync('ovs-vsctl', ['--version'], { encoding: 'utf8' }))?.[0] ?? 'unknown'
}

process.exitCode = await main()
