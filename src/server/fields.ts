import { invalid, type Violation } from '../bridge/problem.js'
import { type Parsed, parsed } from '../lib/parsed.js'

/** What a group of fields holds once it has parsed. */
export type TakenFields<F> = { readonly [K in keyof F]: F[K] extends Parsed<infer T> ? T : never }

/**
 * The values of a request's fields, once all of them parsed; else throws `invalid` with a violation for each that did not.
 * The keys are the fields' names in the proto, below `path` when the message is part of another.
 */
export function takeFields<F extends Readonly<Record<string, Parsed<unknown>>>>(fields: F, path = ''): TakenFields<F> {
  const { values, violations } = readFields(fields, path)
  if (violations.length > 0) throw invalid(violations)
  return values
}

/** As {@link takeFields} for each message of a repeated field; the violations of all are told together. */
export function takeEach<M, F extends Readonly<Record<string, Parsed<unknown>>>>(
  field: string,
  messages: readonly M[],
  parse: (message: M) => F,
): TakenFields<F>[] {
  const read = messages.map((message, index) => readFields(parse(message), `${field}[${index}].`))
  const violations = read.flatMap(one => one.violations)
  if (violations.length > 0) throw invalid(violations)
  return read.map(one => one.values)
}

function readFields<F extends Readonly<Record<string, Parsed<unknown>>>>(fields: F, path: string) {
  const values: Record<string, unknown> = {}
  const violations: Violation[] = []
  for (const [name, field] of Object.entries(fields)) {
    if (field.ok) values[name] = field.value
    else violations.push({ field: path + name, description: field.reason })
  }
  return { values: values as TakenFields<F>, violations }
}

/** An empty or zero field that stands for “not given”. */
export function optional<I extends string | number, T>(
  value: I,
  parse: (value: I) => Parsed<T>,
): Parsed<T | undefined> {
  return value === '' || value === 0 ? parsed(undefined) : parse(value)
}

/** A field of proto3's `optional`: absent, or to be parsed. */
export function maybe<I, T>(value: I | undefined, parse: (value: I) => Parsed<T>): Parsed<T | undefined> {
  return value === undefined ? parsed(undefined) : parse(value)
}
