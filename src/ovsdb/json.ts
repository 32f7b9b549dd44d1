/** What `JSON.parse` makes, plus bigint. */
export type Json = string | number | bigint | boolean | null | readonly Json[] | { readonly [name: string]: Json }

export function isRecord(json: unknown): json is Readonly<Record<string, unknown>> {
  return typeof json === 'object' && json !== null && !Array.isArray(json)
}

export function isArray(json: unknown): json is readonly unknown[] {
  return Array.isArray(json)
}

export function isList(json: Json): json is readonly Json[] {
  return Array.isArray(json)
}

/** A short text of any JSON, for a message. */
export function excerpt(json: unknown): string {
  const text = JSON.stringify(json, (_, v: unknown) => (typeof v === 'bigint' ? String(v) : v)) ?? 'nothing'
  return text.length <= 100 ? text : `${text.slice(0, 100)}…`
}

/** What the parser has made is JSON. */
export function asJson(parsed: unknown): Json {
  return parsed as Json
}
