#!/usr/bin/env node
// Writes the TypeScript rows of an OVSDB schema, and the schema itself as data.
//
//   generate-schema.js [schema.ovsschema [output.ts]]
//
// The shapes are those of src/ovsdb/notation.ts; src/ovsdb/schema.ts reads the same file format at run time
// (RFC 7047 §3.2), and a test holds the two together.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'

const [, , input = '/usr/share/openvswitch/vswitch.ovsschema', output = here('../src/gen/vswitch.ts')] = process.argv

const raw = JSON.parse(readFileSync(input, 'utf8'))
const hasRoots = Object.values(raw.tables).some(({ isRoot }) => isRoot)
const database = { name: raw.name, version: raw.version, tables: mapValues(raw.tables, normaliseTable) }
mkdirSync(dirname(output), { recursive: true })
writeFileSync(output, render(database))

function normaliseTable(table) {
  return {
    columns: mapValues(table.columns, normaliseColumn),
    indexes: table.indexes ?? [],
    isRoot: !hasRoots || (table.isRoot ?? false),
    maxRows: table.maxRows ?? Infinity,
  }
}

function normaliseColumn({ type, ephemeral = false, mutable = true }) {
  const full = typeof type === 'string' ? { key: type } : type
  const { min = 1, max = 1 } = full
  return {
    key: normaliseBase(full.key),
    ...(full.value === undefined ? {} : { value: normaliseBase(full.value) }),
    min,
    max: max === 'unlimited' ? Infinity : max,
    ephemeral,
    mutable,
  }
}

function normaliseBase(base) {
  if (typeof base === 'string') return { type: base }
  const { enum: values, ...rest } = base
  const refType = base.refTable === undefined ? {} : { refType: base.refType ?? 'strong' }
  const choices = values === undefined ? {} : { enum: Array.isArray(values) ? values[1] : [values] }
  return { ...rest, ...refType, ...choices }
}

function render({ name, version, tables }) {
  const names = Object.keys(tables)
  return [
    `// Generated from the ${name} schema, version ${version}, by scripts/generate-schema.js. Do not edit.`,
    `import type { Uuid } from '../ovsdb/notation.js'`,
    `import type { DatabaseSchema } from '../ovsdb/schema.js'`,
    '',
    ...names.flatMap(table => [...renderRow(table, tables[table]), '']),
    `/** Every table of the ${name} database by its name. */`,
    'export interface Tables {',
    ...names.map(table => `  readonly ${table}: ${rowName(table)}`),
    '}',
    '',
    `export const schema: DatabaseSchema<Tables> = ${literal({ name, version, tables }, '')}`,
    '',
  ].join('\n')
}

function renderRow(table, { columns }) {
  const lines = Object.entries(columns).map(([column, type]) => `  readonly ${column}: ${valueType(type)}`)
  return [`export interface ${rowName(table)} {`, '  readonly _uuid: Uuid', ...lines, '}']
}

function rowName(table) {
  return `${table
    .split('_')
    .map(word => word.charAt(0).toUpperCase() + word.slice(1))
    .join('')}Row`
}

function valueType({ key, value, min, max }) {
  if (value !== undefined) return `ReadonlyMap<${atomType(key)}, ${atomType(value)}>`
  if (max > 1) return atomType(key).includes('|') ? `readonly (${atomType(key)})[]` : `readonly ${atomType(key)}[]`
  return min === 0 ? `${atomType(key)} | undefined` : atomType(key)
}

function atomType({ type, minInteger, maxInteger }) {
  switch (type) {
    case 'uuid':
      return 'Uuid'
    case 'real':
      return 'number'
    case 'integer':
      return Number.isSafeInteger(minInteger) && Number.isSafeInteger(maxInteger) ? 'number' : 'number | bigint'
    default:
      return type
  }
}

function literal(value, indent) {
  if (Array.isArray(value)) return `[${value.map(v => literal(v, indent)).join(', ')}]`
  if (typeof value === 'string') return `'${value.replaceAll(/['\\]/g, '\\$&')}'`
  if (typeof value !== 'object') return String(value)
  const deeper = `${indent}  `
  const entries = Object.entries(value).map(([k, v]) => `${deeper}${k}: ${literal(v, deeper)},\n`)
  return entries.length === 0 ? '{}' : `{\n${entries.join('')}${indent}}`
}

function mapValues(object, change) {
  return Object.fromEntries(Object.entries(object).map(([k, v]) => [k, change(v)]))
}

function here(path) {
  return fileURLToPath(new URL(path, import.meta.url))
}
