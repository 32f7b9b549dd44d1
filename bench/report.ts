import { cpus, loadavg, release, totalmem } from 'node:os'
import { assertNever } from '../src/lib/assert-never.js'
import { table } from '../test/support/page.js'
import { type Aim, type Figure, quantile } from './bench.js'

/** Median and extremes. */
interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

type RatioOf = 'ours / theirs' | 'theirs / ours'

/** A figure as bench/results/latest.json keeps it. */
export interface Result {
  readonly name: string
  readonly unit: string
  readonly ours: Spread
  readonly theirs: Spread | undefined
  /** Of pairs from one round. */
  readonly ratio: Spread | undefined
  readonly ratioOf: RatioOf | undefined
  readonly aim: string | undefined
  /** Of the medians, before they are rounded. */
  readonly met: boolean | undefined
  readonly rounds: number
  /** When it was measured, ISO 8601. */
  readonly date: string
  /** Of the last minute, as it stood at the end: getloadavg(3). */
  readonly loadAverage: number
  /** Its ratios may be compared with those of another one, its times not. */
  readonly machine: Machine
}

export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryMib: number
  readonly kernel: string
  readonly node: string
  readonly openVswitch: string
}

export function thisMachine(openVswitch: string): Machine {
  const [cpu] = cpus()
  return {
    cpu: cpu?.model ?? 'unknown',
    cores: cpus().length,
    memoryMib: Math.round(totalmem() / 2 ** 20),
    kernel: release(),
    node: process.versions.node,
    openVswitch,
  }
}

export function resultOf(figure: Figure, machine: Machine): Result {
  const { name, unit, ours, theirs, aim } = figure
  const pairs = theirs && ratios(ours, theirs, ratioOf(figure))
  return {
    name,
    unit,
    ours: spread(ours),
    theirs: theirs && spread(theirs),
    ratio: pairs && spread(pairs),
    ratioOf: pairs && ratioOf(figure),
    aim: aim && aimInWords(aim, unit),
    met: aim && isMet(aim, quantile(ours, 0.5), quantile(pairs ?? [], 0.5)),
    rounds: ours.length,
    date: new Date().toISOString(),
    loadAverage: rounded(loadavg()[0] ?? 0),
    machine,
  }
}

/** How many times faster, of a time that is not to be at most so many times as long. */
function ratioOf({ unit, aim }: Figure): RatioOf {
  return aim?.kind === 'times-as-long' || unit !== 'ms' ? 'ours / theirs' : 'theirs / ours'
}

function ratios(ours: readonly number[], theirs: readonly number[], of: RatioOf): number[] {
  return ours.map((own, i) => {
    const other = theirs[i] ?? Number.NaN
    return of === 'ours / theirs' ? own / other : other / own
  })
}

function aimInWords(aim: Aim, unit: string): string {
  switch (aim.kind) {
    case 'times-faster':
      return `≥ ${aim.atLeast} × faster`
    case 'times-as-many':
      return `≥ ${aim.atLeast} × as many`
    case 'times-as-long':
      return `≤ ${aim.atMost} × as long`
    case 'value':
      return `≤ ${aim.atMost} ${unit}`
    default:
      return assertNever(aim)
  }
}

function isMet(aim: Aim, own: number, ratio: number): boolean {
  switch (aim.kind) {
    case 'times-faster':
      return ratio >= aim.atLeast
    case 'times-as-many':
      return ratio >= aim.atLeast
    case 'times-as-long':
      return ratio <= aim.atMost
    case 'value':
      return own <= aim.atMost
    default:
      return assertNever(aim)
  }
}

function spread(samples: readonly number[]): Spread {
  return {
    median: rounded(quantile(samples, 0.5)),
    min: rounded(quantile(samples, 0)),
    max: rounded(quantile(samples, 1)),
  }
}

/** Three significant digits, and never fewer than a whole number has. */
function rounded(value: number): number {
  return value >= 1_000 ? Math.round(value) : Number(value.toPrecision(3))
}

/** Lines of a table with a head. */
export function tableOf(results: readonly Result[]): string {
  const head = ['', 'ours', 'theirs', 'ratio', '', 'aim', '']
  const lines = results.map(({ name, unit, ours, theirs, ratio, ratioOf: of, aim, met }) => [
    name,
    `${inWords(ours)} ${unit}`,
    theirs === undefined ? '' : `${inWords(theirs)} ${unit}`,
    ratio === undefined ? '' : inWords(ratio),
    of ?? '',
    aim ?? '',
    met === undefined ? '' : met ? 'met' : 'MISSED',
  ])
  const cells = [head, ...lines]
  const widths = head.map((_, column) => Math.max(...cells.map(line => line[column]?.length ?? 0)))
  return cells
    .map(line =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** The whole record as Markdown: a table for each bench. */
export function pageOf(results: readonly Result[]): string {
  const names = [...new Set(results.map(benchOf))]
  const sections = names.map(bench =>
    sectionOf(
      bench,
      results.filter(result => benchOf(result) === bench),
    ),
  )
  return `# Figures

What \`npm run bench\` has measured, and keeps in \`bench/results/latest.json\`: medians, with the least and the most where
there are several samples, and ratios of pairs from one round. [performance.md](../../docs/performance.md) says what each
means.

${sections.join('\n')}`
}

function sectionOf(bench: string, results: readonly Result[]): string {
  const head = ['Figure', 'Ours', 'Theirs', 'Ratio', 'Aim', '', 'Samples', 'Date']
  const lines = results.map(({ name, unit, ours, theirs, ratio, ratioOf: of, aim, met, rounds, date }) => [
    name.slice(bench.length + 2),
    `${inWords(ours)} ${unit}`,
    theirs === undefined ? '' : `${inWords(theirs)} ${unit}`,
    ratio === undefined ? '' : `${inWords(ratio)}, ${of}`,
    aim ?? '',
    met === undefined ? '' : met ? 'met' : '**missed**',
    String(rounds),
    date.slice(0, 10),
  ])
  const machines = new Set(results.map(({ machine }) => machineInWords(machine)))
  return `## ${bench}\n\n${[...machines].join(' ')}\n\n${table(head, lines)}`
}

function machineInWords({ cpu, cores, memoryMib, kernel, node, openVswitch }: Machine): string {
  return `${cpu}, ${cores} cores, ${memoryMib} MiB; Linux ${kernel}, Node.js ${node}, Open vSwitch ${openVswitch}.`
}

function benchOf({ name }: Result): string {
  return name.slice(0, name.indexOf(':'))
}

function inWords({ median, min, max }: Spread): string {
  return min === max ? String(median) : `${median} (${min}–${max})`
}
