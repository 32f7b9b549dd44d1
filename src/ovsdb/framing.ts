import { Buffer, isUtf8 } from 'node:buffer'
import { limitReached, type OvsdbError, protocolError } from './errors.js'
import { isList, type Json } from './json.js'
import { defaultLimits, type Limits } from './limits.js'

/**
 * Cuts a byte stream into JSON texts. JSON-RPC 1.0 puts nothing between them (RFC 7047 §4): a text ends with the
 * bracket that closes its first.
 */
export interface Framer {
  /** The values that `chunk` completes, each decoded whole. Throws `protocol` or `limit`, after which the stream is lost. */
  push(chunk: Uint8Array): unknown[]
  /** Whether the bytes so far end within a message. */
  readonly isMidMessage: boolean
}

const plain = 0
const quote = 1
const backslash = 2
const opening = 3
const closing = 4
/** By byte, which of these it is. */
const kinds = new Uint8Array(256).fill(plain)
kinds[0x22] = quote
kinds[0x5c] = backslash
kinds[0x5b] = opening // [
kinds[0x7b] = opening // {
kinds[0x5d] = closing // ]
kinds[0x7d] = closing // }

/** Where in a text the bytes so far end. */
interface Scan {
  readonly depth: number
  /** Arrays and objects of the message so far. */
  readonly brackets: number
  readonly inString: boolean
  /** The last byte was the backslash of an escape. */
  readonly isEscaped: boolean
}

export function newFramer(options: Partial<Limits> = {}): Framer {
  const limits = { ...defaultLimits, ...options }
  const kept = new Kept(limits.maxMessageBytes)
  let scan: Scan = { depth: 0, brackets: 0, inString: false, isEscaped: false }
  return {
    get isMidMessage() {
      return scan.depth > 0
    },
    push(chunk) {
      const values: unknown[] = []
      // Local while the bytes pass by: this loop sees every byte of every message.
      let { depth, brackets, inString } = scan
      let start = 0
      let at = scan.isEscaped ? 1 : 0
      for (; at < chunk.length; at++) {
        const kind = kinds[chunk[at] ?? 0]
        if (kind === plain && depth > 0) continue
        if (inString) {
          if (kind === quote) inString = false
          else if (kind === backslash) at++
        } else if (kind === opening) {
          if (depth++ === 0) {
            start = at
            brackets = 0
          }
          brackets++
          if (depth > limits.maxNesting || brackets > limits.maxBrackets) throw tooMany(limits, depth)
        } else if (kind === closing) {
          if (--depth === 0) {
            values.push(decodeJson(kept.take(chunk.subarray(start, at + 1))))
            start = at + 1
          } else if (depth < 0) throw protocolError('a closing bracket without its opening one')
        } else if (depth === 0) {
          if (!isSpace(chunk[at])) throw protocolError('bytes between two messages')
        } else if (kind === quote) inString = true
      }
      scan = { depth, brackets, inString, isEscaped: at > chunk.length }
      if (depth > 0) kept.add(chunk.subarray(start))
      return values
    },
  }
}

/** The beginning of a message, in one piece: a server that sends single bytes costs no more than their number. */
class Kept {
  readonly #maxBytes: number
  #buffer = Buffer.alloc(0)
  #length = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  add(bytes: Uint8Array): void {
    const length = this.#length + bytes.length
    if (length > this.#maxBytes)
      throw limitReached('maxMessageBytes', `a message is larger than ${this.#maxBytes} bytes`)
    if (length > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(length, 2 * this.#buffer.length))
      this.#buffer.copy(larger, 0, 0, this.#length)
      this.#buffer = larger
    }
    this.#buffer.set(bytes, this.#length)
    this.#length = length
  }

  /** The message that `end` completes. */
  take(end: Uint8Array): Uint8Array {
    if (this.#length === 0 && end.length <= this.#maxBytes) return end
    this.add(end)
    const bytes = this.#buffer.subarray(0, this.#length)
    this.#buffer = Buffer.alloc(0)
    this.#length = 0
    return bytes
  }
}

function tooMany({ maxNesting, maxBrackets }: Limits, depth: number): OvsdbError {
  if (depth > maxNesting)
    return limitReached('maxNesting', `a message has more than ${maxNesting} brackets within brackets`)
  return limitReached('maxBrackets', `a message has more than ${maxBrackets} arrays and objects`)
}

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}

function decodeJson(bytes: Uint8Array): unknown {
  if (!isUtf8(bytes)) throw protocolError('a message is not UTF-8')
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8')
  try {
    return parseJson(text)
  } catch (cause) {
    throw protocolError('a message is not JSON', { cause })
  }
}

const longInteger = /(?<![\d.eE+-])-?\d{16,}(?![\d.eE])/g

/** `JSON.parse`, except that an integer beyond 2^53 comes as an exact bigint. */
export function parseJson(text: string): unknown {
  if (!hasLongNumber(text)) return JSON.parse(text)
  const mark = freeMark(text)
  const marked = outsideStrings(text, part =>
    part.replace(longInteger, token => (Number.isSafeInteger(Number(token)) ? token : `"${mark}${token}"`)),
  )
  const parsedMark: unknown = JSON.parse(`"${mark}"`)
  return restoreIntegers(JSON.parse(marked), String(parsedMark))
}

/** Whether there are 16 digits in a row, which hardly ever are: such a row has one of every 16 characters. */
function hasLongNumber(text: string): boolean {
  for (let at = 15; at < text.length; at += 16) {
    if (!isDigit(text, at)) continue
    let start = at
    while (isDigit(text, start - 1)) start--
    let end = at + 1
    while (isDigit(text, end)) end++
    if (end - start >= 16) return true
  }
  return false
}

/** False beyond either end. */
function isDigit(text: string, at: number): boolean {
  const code = text.charCodeAt(at)
  return code >= 0x30 && code <= 0x39
}

/**
 * `text` with what is outside its strings changed. Without one regular expression for all: a string may have 100
 * million escapes.
 */
function outsideStrings(text: string, change: (part: string) => string): string {
  const parts: string[] = []
  for (let at = 0; at < text.length; ) {
    const opening = text.indexOf('"', at)
    const start = opening < 0 ? text.length : opening
    const end = endOfString(text, start)
    const outside = text.slice(at, start)
    parts.push(outside.length < 16 ? outside : change(outside), text.slice(start, end))
    at = end
  }
  return parts.join('')
}

/** Behind the quote that closes the string opened at `start`. */
function endOfString(text: string, start: number): number {
  for (let at = text.indexOf('"', start + 1); at >= 0; at = text.indexOf('"', at + 1)) {
    let backslashes = 0
    while (text[at - 1 - backslashes] === '\\') backslashes++
    if (backslashes % 2 === 0) return at + 1
  }
  return text.length
}

// JSON can spell a NUL in this one way only, so a run of them that the text does not have is in no string of it.
function freeMark(text: string): string {
  let mark = '\\u0000'
  while (text.includes(mark)) mark += '\\u0000'
  return mark
}

function restoreIntegers(json: unknown, mark: string): unknown {
  if (typeof json === 'string') return json.startsWith(mark) ? BigInt(json.slice(mark.length)) : json
  if (Array.isArray(json)) {
    for (const [i, element] of json.entries()) json[i] = restoreIntegers(element, mark)
  } else if (typeof json === 'object' && json !== null) {
    const entries: [string, unknown][] = Object.entries(json)
    return Object.fromEntries(entries.map(([name, value]) => [name, restoreIntegers(value, mark)]))
  }
  return json
}

/** `JSON.stringify`, except that a bigint is written as the integer it is. */
export function encodeJson(json: Json): string {
  try {
    return JSON.stringify(json)
  } catch (error) {
    // Thrown for a bigint. There is hardly ever one: nobody looks for them beforehand.
    if (error instanceof TypeError) return spell(json)
    throw error
  }
}

function spell(json: Json): string {
  if (typeof json === 'bigint') return String(json)
  if (typeof json !== 'object' || json === null) return JSON.stringify(json)
  if (isList(json)) return `[${json.map(spell).join(',')}]`
  return `{${Object.entries(json)
    .map(([name, value]) => `${JSON.stringify(name)}:${spell(value)}`)
    .join(',')}}`
}
