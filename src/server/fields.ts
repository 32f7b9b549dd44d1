import { invalid, type Violation } from '../bridge/problem.js'
import { type Parsed, parsed } from '../lib/parsed.js'

/** A field, or a message in one: then what is wrong is told of its own fields. */
export type Field<T> = Parsed<T> | { readonly ok: false; readonly violations: readonly Violation[] }

type Fields = Readonly<Record<string, Field<unknown>>>

/** What a group of fields holds once it has parsed. */
export type TakenFields<F> = { readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never }

/**
 * The values of a request's fields, once all of them parsed; else throws `invalid` with a violation for each that did not.
 * The keys are the fields' names in the proto.
 */
export function takeFields<F extends Fields>(fields: F): TakenFields<F> {
  const { values, violations } = readFields(fields, '')
  if (violations.length > 0) throw invalid(violations)
  return values
}

/** As {@link takeFields} for each message of a repeated field; the violations of all are told together. */
export function takeEach<M, F extends Fields>(
  field: string,
  messages: readonly M[],
  parse: (message: M) => F,
): TakenFields<F>[] {
  const read = messages.map((message, index) => readFields(parse(message), `${field}[${index}].`))
  const violations = read.flatMap(one => one.violations)
  if (violations.length > 0) throw invalid(violations)
  return read.map(one => one.values)
}

/** A field that is a message of these fields; `make` makes its value of theirs. */
export function nested<F extends Fields, T>(fields: F, make: (values: TakenFields<F>) => T): Field<T> {
  const { values, violations } = readFields(fields, '')
  return violations.length > 0 ? { ok: false, violations } : parsed(make(values))
}

function readFields<F extends Fields>(fields: F, path: string) {
  const values: Record<string, unknown> = {}
  const violations: Violation[] = []
  for (const [name, field] of Object.entries(fields)) {
    if (field.ok) values[name] = field.value
    else if ('reason' in field) violations.push({ field: path + name, description: field.reason })
    else for (const one of field.violations) violations.push({ ...one, field: `${path}${name}.${one.field}` })
  }
  return { values: values as TakenFields<F>, violations }
}

const notGiven = parsed(undefined)

/** An empty or zero field that stands for “not given”. */
export function optional<I extends string | number, T>(
  value: I,
  parse: (value: I) => Parsed<T>,
): Parsed<T | undefined> {
  return value === '' || value === 0 ? notGiven : parse(value)
}

/** A field of proto3's `optional`: absent, or to be parsed. */
export function maybe<I, T>(value: I | undefined, parse: (value: I) => Parsed<T>): Parsed<T | undefined> {
  return value === undefined ? notGiven : parse(value)
}
