/**
 * The import rule of the house: imports run one way, the leaves do not know one another, nothing goes round in a circle.
 * Type-only imports count like any other. Prints what breaks the rule, one a line, and exits 1.
 */
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const root = path.resolve(process.argv[2] ?? fileURLToPath(new URL('../src', import.meta.url)))

/**
 * What each room of src/ may import of the others: a room (folder or single file), or `room/name` for one file or folder of it.
 * A room imports itself freely.
 */
const allowed = {
  lib: [],
  ovsdb: ['lib'],
  kernel: ['lib'],
  capture: ['lib'],
  netflow: ['lib'],
  embedded: ['lib'],
  metrics: ['lib'],
  log: ['lib'],
  systemd: ['lib'],
  flags: ['log', 'server/limits'],
  'flag-values': ['lib'],
  config: ['lib', 'log', 'flags', 'flag-values', 'bridge/names', 'server/door', 'server/certificates', 'server/limits'],
  bridge: ['ovsdb', 'kernel', 'capture', 'netflow', 'lib', 'gen/vswitch'],
  server: ['bridge', 'lib', 'gen/ovs', 'gen/google', 'gen/grpc', 'gen/descriptors'],
  cli: ['config', 'lib', 'gen/ovs'],
  gen: ['ovsdb'],
}

/** The composition root: it imports all, no room imports it. */
const composition = new Set(['main', 'serve', 'daemon', 'failure', 'recovery'])

/** Modules from outside that only these rooms (or the composition root) may import. */
const reserved = {
  '@grpc/grpc-js': ['server', 'cli', 'gen'],
  'node:child_process': ['embedded'],
  child_process: ['embedded'],
  koffi: ['lib', 'capture'],
  'prom-client': ['metrics'],
}

const statement = /^(?:import|export)\b(?:[^'";]*?\bfrom)?\s*'([^']+)'|\bimport\(\s*'([^']+)'\s*\)/gm

const sources = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.ts'))
const imports = new Map(sources.map(file => [file, importsOf(file)]))
const problems = [...imports].flatMap(([file, targets]) => targets.flatMap(target => judge(file, target)))
problems.push(...cycles())
for (const problem of problems) console.error(problem)
if (sources.length === 0) console.error(`no sources under ${root}`)
process.exitCode = problems.length > 0 || sources.length === 0 ? 1 : 0

/** Modules that a file names, its own comments aside; those of ours as paths under src. */
function importsOf(file) {
  const text = readFileSync(path.join(root, file), 'utf8').replace(/\/\*[^]*?\*\/|^\s*\/\/.*$/gm, '')
  return [...text.matchAll(statement)].map(match => {
    const name = match[1] ?? match[2]
    if (!name.startsWith('.')) return { outside: name }
    return { ours: path.join(path.dirname(file), name).replace(/\.js$/, '.ts') }
  })
}

function roomOf(file) {
  return file.split(path.sep)[0].replace(/\.ts$/, '')
}

function judge(file, { ours, outside }) {
  const from = roomOf(file)
  if (composition.has(from)) return []
  if (outside !== undefined) {
    const owners = Object.entries(reserved).find(([name]) => outside === name || outside.startsWith(`${name}/`))?.[1]
    if (owners === undefined || owners.includes(from)) return []
    return [`src/${file}: imports ${outside}; only ${owners.map(owner => `src/${owner}`).join(', ')} may`]
  }
  const to = roomOf(ours)
  if (from === to) return []
  if (ours.startsWith('..')) return [`src/${file}: imports ${ours}, outside src`]
  if (composition.has(to)) return [`src/${file}: imports ${ours}; only the composition root may`]
  const may = allowed[from]
  if (may === undefined) return [`src/${file}: scripts/check-imports.js has no rule for src/${from}`]
  const target = ours.replace(/\.ts$/, '')
  if (may.some(room => target === room || target.startsWith(`${room}/`))) return []
  return [`src/${file}: imports ${ours}; src/${from} may import ${may.join(', ') || 'nothing of ours'}`]
}

/** Each circle once, as the chain of files that closes it. */
function cycles() {
  const found = []
  const done = new Set()
  const chain = []
  const visit = file => {
    const at = chain.indexOf(file)
    if (at >= 0) found.push(`circle: ${[...chain.slice(at), file].map(name => `src/${name}`).join(' → ')}`)
    if (at >= 0 || done.has(file)) return
    chain.push(file)
    for (const { ours } of imports.get(file) ?? []) if (ours !== undefined) visit(ours)
    chain.pop()
    done.add(file)
  }
  for (const file of imports.keys()) if (roomOf(file) !== 'gen') visit(file)
  return found
}
