import type { Result } from './report.js'

/** What is measured at a number of ports: milliseconds, the median. */
interface Point {
  readonly ports: number
  readonly ms: number
}

interface Line {
  readonly label: string
  readonly colour: string
  readonly points: readonly Point[]
}

const width = 720
const height = 400
const margin = { top: 20, right: 20, bottom: 50, left: 60 }

/** The curves of the bench `growth` as an SVG; undefined where it was not run. */
export function growthPlot(results: readonly Result[]): string | undefined {
  const lines = linesOf(results)
  const all = lines.flatMap(line => line.points)
  if (all.length === 0) return undefined
  const xTicks = [...new Set(all.map(point => point.ports))].sort((a, b) => a - b)
  const yTicks = ticksUpTo(Math.max(...all.map(point => point.ms)))
  const x = scale([0, Math.max(...xTicks, 1)], [margin.left, width - margin.right])
  const y = scale([0, Math.max(...yTicks)], [height - margin.bottom, margin.top])
  const parts = [
    ...xTicks.map(ports => text(x(ports), height - margin.bottom + 18, 'middle', String(ports))),
    ...yTicks.map(ms => text(margin.left - 8, y(ms) + 4, 'end', String(ms))),
    ...yTicks.map(ms => `<path stroke="#ccc" d="M${margin.left} ${y(ms)}H${width - margin.right}"/>`),
    text((margin.left + width - margin.right) / 2, height - 10, 'middle', 'ports'),
    text(margin.left, 12, 'middle', 'ms, p50'),
    ...lines.map(({ colour, points }) => path(colour, points, x, y)),
    ...lines.map(({ label, colour }, i) => text(margin.left + 12, margin.top + 18 + 18 * i, 'start', label, colour)),
  ]
  const open = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13">`
  return [open, '<rect width="100%" height="100%" fill="#fff"/>', ...parts, '</svg>', ''].join('\n')
}

function linesOf(results: readonly Result[]): Line[] {
  const measured = results.flatMap(result => {
    const [, ports, side] = /^growth: CreateTap with (\d+) ports, p50 \/ (.+)$/.exec(result.name) ?? []
    return ports === undefined || side === undefined ? [] : [{ ports: Number(ports), side, result }]
  })
  const byHand = measured.filter(({ side }) => side === 'ip and ovs-vsctl')
  const byScript = measured.filter(({ side }) => side === 'raw JSON-RPC script')
  const byLeast = measured.filter(({ side }) => side === 'the least service')
  const theirs = (of: typeof measured) => of.map(({ ports, result }) => ({ ports, ms: result.theirs?.median ?? 0 }))
  const lines = [
    { label: 'ip and ovs-vsctl', colour: '#b33', points: theirs(byHand) },
    {
      label: 'CreateTap',
      colour: '#06c',
      points: byHand.map(({ ports, result }) => ({ ports, ms: result.ours.median })),
    },
    { label: 'the least service', colour: '#393', points: theirs(byLeast) },
    { label: 'raw JSON-RPC script', colour: '#777', points: theirs(byScript) },
  ]
  return lines.filter(line => line.points.length > 0)
}

/** Round numbers from nought past the greatest. */
function ticksUpTo(greatest: number): number[] {
  const rough = Math.max(greatest, 1) / 5
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = ([1, 2, 5, 10].find(factor => factor * power >= rough) ?? 10) * power
  return Array.from({ length: Math.ceil(greatest / step) + 1 }, (_, i) => Number((i * step).toPrecision(6)))
}

type Scale = (value: number) => number

function scale([from, to]: readonly [number, number], [start, end]: readonly [number, number]): Scale {
  return value => Math.round((start + ((value - from) / (to - from)) * (end - start)) * 10) / 10
}

function path(colour: string, points: readonly Point[], x: Scale, y: Scale): string {
  const corners = points.map(({ ports, ms }) => `${x(ports)} ${y(ms)}`)
  return `<path fill="none" stroke="${colour}" stroke-width="2" d="M${corners.join('L')}"/>`
}

function text(x: number, y: number, anchor: 'start' | 'middle' | 'end', content: string, colour = '#333'): string {
  return `<text x="${x}" y="${y}" text-anchor="${anchor}" fill="${colour}">${content}</text>`
}
