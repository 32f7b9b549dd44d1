import { setImmediate as otherWork } from 'node:timers/promises'
import { type AddressEntry, isNews } from '../bridge/address-entry.js'
import type { Addresses } from '../bridge/addresses.js'
import { addressViewOf, isNewRival, scopeId, type TapFeed, viewOf } from '../bridge/events.js'
import { isWithin, type Tap, type TapScope } from '../bridge/inventory.js'
import { type PortName, parseBridgeName, parsePortName, parseVlanId } from '../bridge/names.js'
import { invalid } from '../bridge/problem.js'
import { type Bandwidth, type Stats, type StatsTick, type TapStats, usualIntervalMs } from '../bridge/stats.js'
import type { Duration } from '../gen/google/protobuf/duration.js'
import type { TapKind } from '../gen/ovs/bridge/v1/tap.js'
import {
  type AddressEvent,
  AddressEventType,
  type GetBandwidthRequest,
  type GetBandwidthResponse,
  type TapEvent,
  TapEventType,
  type TapStats as TapStatsMessage,
  type WatchAddressesRequest,
  type WatchAddressesResponse,
  type WatchTapStatsRequest,
  type WatchTapStatsResponse,
  type WatchTapsRequest,
  type WatchTapsResponse,
} from '../gen/ovs/bridge/v1/watch.js'
import type { Batch, Change } from '../lib/fanout.js'
import { type Parsed, parsed, refused } from '../lib/parsed.js'
import { remembered } from '../lib/remembered.js'
import type { StreamHandler, UnaryHandler } from './call.js'
import { addressMessage, parseKind, tapMessage } from './convert.js'
import { maybe, optional, takeFields } from './fields.js'
import { durationMs, timestamp } from './time.js'

/** What follows a host for all who watch it; its addresses it has itself. */
export interface Watched {
  readonly feed: TapFeed
  readonly stats: Stats
}

/** Subscribers that get the same batch get the same message, which is then encoded once. */
export function watchTapsOn({ log }: TapFeed): StreamHandler<WatchTapsRequest, WatchTapsResponse> {
  const messageOf = remembered((batch: Batch<Tap>) => tapsMessage(log.epoch, batch))
  return async function* (request, { signal }) {
    const view = viewOf(takeFields(scopeFields(request)))
    const { epoch, revision } = request
    const after = epoch === '' ? undefined : { epoch, revision: Number(revision) }
    for await (const batch of log.watch({ view, after, signal })) yield messageOf(batch)
  }
}

/** As {@link watchTapsOn}. */
export function watchAddressesOn({
  log,
}: Pick<Addresses, 'log'>): StreamHandler<WatchAddressesRequest, WatchAddressesResponse> {
  const messageOf = remembered((batch: Batch<AddressEntry>) => addressesMessage(log.epoch, batch))
  return async function* (request, { signal }) {
    const view = addressViewOf(takeFields(scopeFields(request)))
    const { epoch, revision } = request
    const after = epoch === '' ? undefined : { epoch, revision: Number(revision) }
    for await (const batch of log.watch({ view, after, signal })) yield messageOf(batch)
  }
}

/** As {@link watchTapsOn}; only who reads slowly gets a message of its own. */
export function watchTapStatsOn(
  stats: Pick<Stats, 'watch'>,
): StreamHandler<WatchTapStatsRequest, WatchTapStatsResponse> {
  const sharedOf = remembered((_: StatsTick) => new Map<string, readonly Part[]>())
  const messageOf = remembered(statsMessage)
  return async function* (request, { signal }) {
    const { interval, ...scope } = takeFields({
      ...scopeFields(request),
      interval: maybe(request.interval, parseIntervalMs),
    })
    const id = scopeId(scope)
    for await (const { value, skipped } of stats.watch(interval ?? usualIntervalMs, signal)) {
      const shared = sharedOf(value)
      const parts = shared.get(id) ?? split(value, scope)
      shared.set(id, parts)
      for (const [index, part] of parts.entries()) {
        // Of thousands of taps each message takes a while to make.
        if (index > 0) await otherWork()
        yield index > 0 || skipped === 0 ? messageOf(part) : { ...messageOf(part), skippedTicks: BigInt(skipped) }
      }
    }
  }
}

export function getBandwidthOn(stats: Stats): UnaryHandler<GetBandwidthRequest, GetBandwidthResponse> {
  return async request => {
    const { bridge, tap } = takeFields({
      bridge: optional(request.bridge, parseBridgeName),
      tap: optional(request.tap, parsePortName),
    })
    if (tap === undefined) return bandwidthMessage(stats.bandwidthOfBridge(bridge))
    if (bridge !== undefined) {
      throw invalid([{ field: 'bridge', description: 'is given beside a tap, whose name alone tells which it is' }])
    }
    return bandwidthMessage(stats.bandwidthOfTap(tap))
  }
}

interface ScopeRequest {
  readonly bridge: string
  readonly kind: TapKind
  readonly vlan?: number | undefined
  readonly taps: readonly string[]
}

function scopeFields(request: ScopeRequest) {
  return {
    bridge: optional(request.bridge, parseBridgeName),
    kind: parseKind(request.kind),
    vlan: maybe(request.vlan, parseVlanId),
    taps: parseNames(request.taps),
  }
}

function parseNames(names: readonly string[]): Parsed<ReadonlySet<PortName> | undefined> {
  const taken = new Set<PortName>()
  for (const [index, name] of names.entries()) {
    const result = parsePortName(name)
    if (!result.ok) return refused(`has at [${index}] a name that ${result.reason}`)
    taken.add(result.value)
  }
  return parsed(taken.size === 0 ? undefined : taken)
}

const leastIntervalMs = 200
const mostIntervalMs = 3_600_000

function parseIntervalMs(interval: Duration): Parsed<number> {
  const intervalMs = durationMs(interval)
  if (intervalMs < leastIntervalMs) return refused(`is ${intervalMs} ms; the least is ${leastIntervalMs} ms`)
  return intervalMs > mostIntervalMs ? refused('is longer than an hour') : parsed(intervalMs)
}

function tapsMessage(epoch: string, { revision, changes, synced, reset, merged }: Batch<Tap>): WatchTapsResponse {
  const events = changes.flatMap(change => eventMessage(change) ?? [])
  return { epoch, revision: BigInt(revision), events, synced, reset, merged: BigInt(merged) }
}

function eventMessage({ before, after }: Change<Tap>): TapEvent | undefined {
  if (after === undefined) {
    return before === undefined ? undefined : { type: TapEventType.REMOVED, tap: tapMessage(before) }
  }
  return { type: before === undefined ? TapEventType.ADDED : TapEventType.CHANGED, tap: tapMessage(after) }
}

function addressesMessage(epoch: string, batch: Batch<AddressEntry>): WatchAddressesResponse {
  const { revision, changes, synced, reset, merged } = batch
  // No other batch has that revision.
  const isSnapshot = revision === 0
  const events = changes.flatMap(change => addressEvents(change, isSnapshot))
  return { epoch, revision: BigInt(revision), events, synced, reset, merged: BigInt(merged) }
}

function addressEvents({ before, after }: Change<AddressEntry>, isSnapshot: boolean): AddressEvent[] {
  if (after === undefined) {
    return before === undefined ? [] : [addressEvent(AddressEventType.EXPIRED, before)]
  }
  const learned = before === undefined || isNews(before, after) ? [addressEvent(AddressEventType.LEARNED, after)] : []
  if (isSnapshot || !isNewRival(before, after)) return learned
  return [...learned, { ...addressEvent(AddressEventType.CONFLICT, after), otherTap: after.rival ?? '' }]
}

function addressEvent(type: AddressEventType, { name, bridge, address }: AddressEntry): AddressEvent {
  return { type, tap: name, bridge: bridge ?? '', address: addressMessage(address), otherTap: '' }
}

const maxTapsPerMessage = 500

/** What goes into one message of a tick. */
interface Part {
  readonly taps: StatsTick
  readonly more: boolean
}

/** At least one part: a tick is told, whatever there is. */
function split(tick: StatsTick, scope: TapScope): Part[] {
  const wanted = tick.filter(({ tap }) => isWithin(scope, tap))
  const parts: Part[] = []
  for (let start = 0; start === 0 || start < wanted.length; start += maxTapsPerMessage) {
    const end = start + maxTapsPerMessage
    parts.push({ taps: wanted.slice(start, end), more: end < wanted.length })
  }
  return parts
}

function statsMessage({ taps, more }: Part): WatchTapStatsResponse {
  return { stats: taps.map(tapStatsMessage), skippedTicks: 0n, more }
}

function tapStatsMessage({ tap, epochMs, total, rate, intervals }: TapStats): TapStatsMessage {
  return {
    bridge: tap.bridge ?? '',
    tap: tap.name,
    time: epochMs === undefined ? undefined : timestamp(epochMs),
    rxBytesPerSecond: rate.rx,
    txBytesPerSecond: rate.tx,
    intervals,
    ...total,
  }
}

function bandwidthMessage({ rate, intervals }: Bandwidth): GetBandwidthResponse {
  return { rxBytesPerSecond: rate.rx, txBytesPerSecond: rate.tx, intervals }
}
