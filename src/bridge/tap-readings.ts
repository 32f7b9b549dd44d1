import { countedFrom, readStatistics, seenByEndpoint } from './counters.js'
import type { Host } from './host.js'
import type { LinkDump } from './link-dumps.js'
import type { DeviceReading, Reading } from './meter.js'
import { bridgeOf } from './ovs.js'
import type { TapRecord } from './ownership-tap.js'

/** What ovs-vswitchd has told last of a tap's device. */
export function readReplica(host: Host, tap: TapRecord): Reading {
  return { id: tap.id, counted: tap.counted, device: reportedDevice(host, tap) }
}

function reportedDevice(host: Host, tap: TapRecord): DeviceReading | undefined {
  const row = host.ovsdb.replica.find('Interface', 'name', tap.name)
  const counters = row && readStatistics(row.statistics)
  if (row === undefined || counters === undefined || tap.bridge === undefined) return undefined
  const from = countedFrom('vswitchd', row.type, () => datapathTypeOf(host, tap))
  return { ifindex: row.ifindex ?? 0, counters: seenByEndpoint(counters, from) }
}

function datapathTypeOf(host: Host, tap: TapRecord): string {
  const port = host.ovsdb.replica.find('Port', 'name', tap.name)
  const type = port && bridgeOf(host.ovsdb.replica, port)?.datapath_type
  return type === undefined || type === '' ? 'system' : type
}

/** What the kernel tells of it. */
export function readLink(host: Host, links: LinkDump['links'], tap: TapRecord): Reading {
  const link = links.get(tap.name)
  if (link === undefined || tap.bridge === undefined) return { id: tap.id, device: undefined }
  const type = host.ovsdb.replica.find('Interface', 'name', tap.name)?.type ?? ''
  const from = countedFrom('kernel', type, () => datapathTypeOf(host, tap))
  const device = { ifindex: link.index, counters: seenByEndpoint(link.statistics, from) }
  return { id: tap.id, counted: tap.counted, device }
}
