import { assertNever } from '../lib/assert-never.js'
import { type Parsed, parsed, refused } from '../lib/parsed.js'
import type { BaseType, ColumnSchema } from '../ovsdb/index.js'

// The notation of ovs-vsctl(8), "Database Values", and as far as that is silent, what ovs-vsctl 3.1 takes: a test compares.

/** RFC 7047 §5.1, `<atom>`, but for rows: those cannot be named. An integer beyond 2^53 is a bigint, any other a number. */
export type PlainAtom = string | number | bigint | boolean

/** RFC 7047 §5.1, `<value>`: an atom, an optional atom, a set, or a map. */
export type PlainValue = PlainAtom | undefined | readonly PlainAtom[] | ReadonlyMap<PlainAtom, PlainAtom>

/** A stretch of text that a delimiter ended. */
export interface Token {
  /** Without the backslashes that kept delimiters in it; with its quotes, and the backslashes inside them. */
  readonly text: string
  readonly rest: string
}

// isspace(3) in the C locale: a no-break space is none.
const space = ' \\t\\n\\v\\f\\r'
const leadingSpace = new RegExp(`^[${space}]+`)
const commaAndSpace = new RegExp(`^[${space}]*,?[${space}]*`)
const delimiter = /^[:=, [\]{}!<>]/
const tokenPattern = /^(?:"(?:[^"\\]|\\.)*"|\\.|[^:=, [\]{}!<>"\\])*/su

/** Reads up to the next delimiter that is neither in double quotes nor after a backslash. */
export function readToken(input: string): Parsed<Token> {
  const [taken = ''] = tokenPattern.exec(input) ?? []
  const rest = input.slice(taken.length)
  if (rest.startsWith('"')) return refused('has a quote that does not end')
  if (rest.startsWith('\\')) return refused('ends in a backslash')
  const text = taken.replace(/("(?:[^"\\]|\\.)*")|\\(.)/gsu, (_all, quoted?: string, escaped?: string) =>
    String(quoted ?? escaped),
  )
  return parsed({ text, rest })
}

/** Reads the value of a whole column: an atom, or a set or map of them with or without brackets. */
export function parseColumnValue(column: ColumnSchema, input: string): Parsed<PlainValue> {
  const elements = readElements(column, input)
  if (!elements.ok) return elements
  const { value: map } = elements
  const { min, max } = column
  if (map.size < min) return refused('got none')
  if (map.size > max) return refused(`got ${map.size}`)
  if (column.value !== undefined) return parsed(map)
  return parsed(max > 1 ? [...map.keys()] : [...map.keys()][0])
}

/** The keys of a map with their values, or the elements of a set each with itself. */
function readElements(column: ColumnSchema, input: string): Parsed<Map<PlainAtom, PlainAtom>> {
  const [open, close] = column.value === undefined ? ['[', ']'] : ['{', '}']
  const start = input.replace(leadingSpace, '')
  if (start === '') return refused(`got nothing, and ${open}${close} stands for none`)
  const enclosed = start.startsWith(open)
  const elements = new Map<PlainAtom, PlainAtom>()
  let rest = enclosed ? start.slice(1).replace(leadingSpace, '') : start
  const isAtEnd = (text: string) => text === '' || (enclosed && text.startsWith(close))
  while (!isAtEnd(rest)) {
    const after = readElement(column, rest, elements)
    if (!after.ok) return after
    rest = after.value.replace(commaAndSpace, '')
  }
  if (!enclosed) return parsed(elements)
  if (rest === '') return refused(`the value has no ${close} at its end`)
  const surplus = rest.slice(1).replace(leadingSpace, '')
  return surplus === '' ? parsed(elements) : refused(`the value goes on after ${close} with ${excerpt(surplus)}`)
}

/** Adds what the first element stands for; answers with the rest of the input. */
function readElement(column: ColumnSchema, input: string, elements: Map<PlainAtom, PlainAtom>): Parsed<string> {
  if (delimiter.test(input)) return refused(`${input.charAt(0)} is out of place`)
  const key = readToken(input)
  if (!key.ok) return refused(`the value ${key.reason}`)
  const keys = parseAtoms(column.key, key.value.text)
  if (!keys.ok) return keys
  const pair = column.value === undefined ? undefined : readPairValue(column.value, key.value.rest)
  if (pair?.ok === false) return pair
  for (const atom of keys.value) {
    if (elements.has(atom)) return refused(`${excerpt(String(atom))} is there twice`)
    elements.set(atom, pair?.value.atom ?? atom)
  }
  return parsed(pair?.value.rest ?? key.value.rest)
}

function readPairValue(base: BaseType, input: string): Parsed<{ readonly atom: PlainAtom; readonly rest: string }> {
  const [separator = ''] = new RegExp(`^[${space}]*=[${space}]*`).exec(input) ?? []
  if (separator === '') return refused('a key has no = after it')
  const token = readToken(input.slice(separator.length))
  if (!token.ok) return refused(`the value ${token.reason}`)
  const atom = parseAtom(base, token.value.text)
  return atom.ok ? parsed({ atom: atom.value, rest: token.value.rest }) : atom
}

// strtoll(3) passes over leading space, which only a backslash brings into a token.
const integerPattern = new RegExp(`^[${space}]*([+-]?\\d+)$`)
const rangePattern = new RegExp(`^([${space}]*[+-]?\\d+)-(.*)$`, 's')

/** As in ovs-vsctl: no range is longer. */
const maxRangeSize = 4096n

/** One atom, or those of a range of integers such as `10-20`. */
function parseAtoms(base: BaseType, text: string): Parsed<readonly PlainAtom[]> {
  const [, from = '', to = ''] = (base.type === 'integer' && rangePattern.exec(text)) || []
  if (from === '') {
    const atom = parseAtom(base, text)
    return atom.ok ? parsed([atom.value]) : atom
  }
  const first = parseAtom(base, from)
  const last = parseAtom(base, to)
  if (!first.ok || !last.ok) return refused(`got ${excerpt(text)}`)
  const start = BigInt(String(first.value))
  const size = BigInt(String(last.value)) - start + 1n
  if (size < 1n) return refused(`the range ${text} ends before it starts`)
  if (size > maxRangeSize) return refused(`the range ${text} holds more than ${maxRangeSize}`)
  return parsed(Array.from({ length: Number(size) }, (_, i) => integerOf(start + BigInt(i))))
}

/** Reads one atom and holds it against what the schema allows. */
export function parseAtom(base: BaseType, text: string): Parsed<PlainAtom> {
  const atom = readAtom(base, text)
  if (!atom.ok || isAllowed(base, atom.value)) return atom
  return refused(`got ${excerpt(text)}`)
}

function readAtom({ type }: BaseType, text: string): Parsed<PlainAtom> {
  const got = refused(`got ${excerpt(text)}`)
  switch (type) {
    case 'integer': {
      const [, digits = ''] = integerPattern.exec(text) ?? []
      return digits === '' ? got : inInt64(BigInt(digits.replace('+', '')), got)
    }
    case 'real':
      // strtod(3) would take hexadecimal too; no column of Open vSwitch is a real.
      return /^[+-]?(\d+(?:\.\d*)?|\.\d+)(e[+-]?\d+)?$/i.test(text) && Number.isFinite(Number(text))
        ? parsed(Number(text))
        : got
    case 'boolean':
      if (['true', 'yes', 'on', '1'].includes(text)) return parsed(true)
      return ['false', 'no', 'off', '0'].includes(text) ? parsed(false) : got
    case 'string':
      return readString(text)
    case 'uuid':
      return refused('rows cannot be named here')
    default:
      return assertNever(type)
  }
}

function inInt64(value: bigint, otherwise: Parsed<PlainAtom>): Parsed<PlainAtom> {
  return BigInt.asIntN(64, value) === value ? parsed(integerOf(value)) : otherwise
}

function integerOf(value: bigint): number | bigint {
  return Number.isSafeInteger(Number(value)) ? Number(value) : value
}

const jsonBody = /^(?:[^"\\]|\\["\\/bfnrt]|\\u(?!0000)[0-9a-fA-F]{4})*$/u
const loneSurrogate = /\p{Surrogate}/u
const escapes = new Map(Object.entries({ b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' }))

/** Text as it is, or when it starts with a quote, as a JSON string (RFC 8259 §7). */
function readString(text: string): Parsed<string> {
  if (text === '') return refused('got nothing, and "" stands for the empty string')
  if (!text.startsWith('"')) return parsed(text)
  const body = text.slice(1, -1)
  if (text.length < 2 || !text.endsWith('"') || !jsonBody.test(body))
    return refused(`got ${excerpt(text)}, which is no JSON string`)
  const value = body.replace(/\\(?:u(.{4})|(.))/gsu, (_all, hex?: string, letter: string = '') =>
    hex === undefined ? (escapes.get(letter) ?? letter) : String.fromCharCode(Number.parseInt(hex, 16)),
  )
  return loneSurrogate.test(value) ? refused(`got ${excerpt(text)}, which has half a surrogate pair`) : parsed(value)
}

function isAllowed(base: BaseType, atom: PlainAtom): boolean {
  if (base.enum !== undefined && !base.enum.some(choice => choice === atom)) return false
  if (typeof atom === 'string') {
    const length = [...atom].length
    return length >= (base.minLength ?? 0) && length <= (base.maxLength ?? Number.POSITIVE_INFINITY)
  }
  if (typeof atom !== 'number' && typeof atom !== 'bigint') return true
  const min = base.minInteger ?? base.minReal ?? Number.NEGATIVE_INFINITY
  const max = base.maxInteger ?? base.maxReal ?? Number.POSITIVE_INFINITY
  return atom >= min && atom <= max
}

/** What a column can be set to, in words that follow “takes”. */
export function takenBy({ key, value, min, max }: ColumnSchema): string {
  if (value !== undefined) return `pairs of ${wordsFor(key)}, = and ${wordsFor(value)}, or {}`
  if (max > 1)
    return `${max === Number.POSITIVE_INFINITY ? 'any number of' : `up to ${max} of`} ${wordsFor(key)}, or []`
  return min === 0 ? `${wordsFor(key)}, or []` : wordsFor(key)
}

function wordsFor(base: BaseType): string {
  if (base.enum !== undefined) return `one of ${base.enum.join(', ')}`
  switch (base.type) {
    case 'integer':
    case 'real':
      return `${base.type === 'integer' ? 'an integer' : 'a number'}${wordsForRange(base)}`
    case 'boolean':
      return 'true or false'
    case 'string':
      return 'a string'
    case 'uuid':
      return 'a row'
    default:
      return assertNever(base.type)
  }
}

function wordsForRange({ minInteger, maxInteger, minReal, maxReal }: BaseType): string {
  const min = minInteger ?? minReal
  const max = maxInteger ?? maxReal
  if (min === undefined) return max === undefined ? '' : ` up to ${max}`
  return max === undefined ? ` from ${min}` : ` from ${min} to ${max}`
}

/** Input quoted in a message, cut to a length that a message bears. */
export function excerpt(text: string): string {
  return text.length > 60 ? `${JSON.stringify(text.slice(0, 60))}…` : JSON.stringify(text)
}
