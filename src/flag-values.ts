import type { Brand } from './lib/brand.js'
import { type Parsed, parsed, refused } from './lib/parsed.js'
import { type LoopbackAddress, parseLoopbackAddress } from './lib/socket-address.js'

export function parseMetricsListen(text: string): Parsed<LoopbackAddress | 'off'> {
  return text === 'off' ? parsed(text) : parseLoopbackAddress(text)
}

export function oneOf<const T extends string>(choices: readonly T[]): (text: string) => Parsed<T> {
  return text => {
    const choice = choices.find(known => known === text)
    return choice === undefined ? refused(`is none of ${choices.join(', ')}`) : parsed(choice)
  }
}

export function parseSwitch(text: string): Parsed<boolean> {
  if (text === 'true' || text === '1') return parsed(true)
  if (text === 'false' || text === '0') return parsed(false)
  return refused('is neither true nor false')
}

export function parseAbsolutePath(text: string): Parsed<string> {
  if (!text.startsWith('/')) return refused('is not an absolute path')
  return text.includes('\0') ? refused('holds a NUL') : parsed(text)
}

/** Tells the bridges of several services on one host apart. */
export type InstanceName = Brand<string, 'InstanceName'>

export function parseInstanceName(text: string): Parsed<InstanceName> {
  if (!/^[a-z0-9-]{1,32}$/.test(text)) return refused('is not 1 to 32 of a-z, 0-9 and -')
  return parsed(text as InstanceName)
}

export function parseCount(text: string): Parsed<number> {
  if (!/^[1-9]\d{0,6}$/.test(text)) return refused('is not a whole number from 1 to 9999999')
  return parsed(Number(text))
}

/** The least lets every small request through, the most is what a gRPC client can be brought to send. */
export function parseMessageBytes(text: string): Parsed<number> {
  const bytes = /^\d{1,10}$/.test(text) ? Number(text) : 0
  return bytes >= 65_536 && bytes <= 1_073_741_824 ? parsed(bytes) : refused('is not from 65536 to 1073741824')
}

const unitsMs = new Map([
  ['ms', 1],
  ['s', 1_000],
  ['m', 60_000],
])

/** Takes a duration within these bounds, in milliseconds. */
export function durationMs(least: number, most: number): (text: string) => Parsed<number> {
  return text => {
    const [, digits, unit] = /^(\d{1,6})(ms|s|m)$/.exec(text) ?? []
    const unitMs = unitsMs.get(unit ?? '')
    if (digits === undefined || unitMs === undefined)
      return refused('is not a whole number with a unit: 500ms, 10s, 2m')
    const duration = Number(digits) * unitMs
    if (duration < least) return refused(`is shorter than ${least / 1_000} s`)
    return duration <= most ? parsed(duration) : refused(`is longer than ${most / 60_000} minutes`)
  }
}

const unitsBytes = new Map([
  ['KiB', 2 ** 10],
  ['MiB', 2 ** 20],
  ['GiB', 2 ** 30],
  ['TiB', 2 ** 40],
])

/** `none` is undefined. */
export function parseQuota(text: string): Parsed<number | undefined> {
  if (text === 'none') return parsed(undefined)
  const [, digits, unit] = /^(\d{1,6})([KMGT]iB)$/.exec(text) ?? []
  const unitBytes = unitsBytes.get(unit ?? '')
  if (digits === undefined || unitBytes === undefined)
    return refused('is neither none nor a whole number with a unit: 500MiB, 10GiB')
  return parsed(Number(digits) * unitBytes)
}
