export { isRecord } from '../lib/json-rpc.js'

/** What `JSON.parse` makes, plus bigint. */
export type Json = string | number | bigint | boolean | null | readonly Json[] | { readonly [name: string]: Json }

export function isArray(json: unknown): json is readonly unknown[] {
  return Array.isArray(json)
}

export function isList(json: Json): json is readonly Json[] {
  return Array.isArray(json)
}

/** A short text of any JSON, for a message; of a large one no more is looked at than it needs. */
export function excerpt(json: unknown): string {
  return shorten(JSON.stringify(beginning(json, 4)) ?? 'nothing', 100)
}

export function shorten(text: string, maxCharacters: number): string {
  return text.length <= maxCharacters ? text : `${text.slice(0, maxCharacters)}…`
}

/** As much of `json` as can be seen in its first hundred characters. */
function beginning(json: unknown, depth: number): unknown {
  if (typeof json === 'bigint') return String(json)
  if (typeof json === 'string') return json.slice(0, 100)
  if (typeof json !== 'object' || json === null) return json
  if (depth === 0) return '…'
  if (isArray(json)) return json.slice(0, 50).map(element => beginning(element, depth - 1))
  const entries = Object.entries(json).slice(0, 20)
  return Object.fromEntries(entries.map(([name, value]: [string, unknown]) => [name, beginning(value, depth - 1)]))
}

/** What the parser has made is JSON. */
export function asJson(parsed: unknown): Json {
  return parsed as Json
}
