import { KernelError } from '../kernel/index.js'
import type { Call } from './call.js'
import type { Host } from './host.js'
import { bridgeDeviceAlias, idOf, ownerOf } from './ownership.js'

/**
 * Marks the device of a bridge that we have made; true if it had no mark. An ovs-vswitchd that is killed before it hears of
 * the bridge's end leaves it behind on the userspace datapath. On the kernel's it does not, and the device's own messages are
 * left alone.
 */
export async function markBridgeDevice(host: Host, name: string, call: Call): Promise<boolean> {
  const device = await host.kernel.getLink(name, call.signal)
  const isOurs = idOf(host.ovsdb.replica.find('Bridge', 'name', name)?.external_ids ?? new Map()) !== undefined
  if (device?.tun === undefined || device.alias !== '' || !isOurs) return false
  try {
    await host.kernel.setLink(name, { alias: bridgeDeviceAlias(host.instance) }, call.signal)
  } catch (error) {
    if (!(error instanceof KernelError) || error.problem.kind !== 'no-device') throw error
  }
  return true
}

/** Marks the devices of our bridges that ovs-vswitchd has made anew; the names of those. */
export async function markBridgeDevices(host: Host, call: Call): Promise<string[]> {
  const marked: string[] = []
  for (const { name, external_ids, datapath_type } of host.ovsdb.replica.rows('Bridge')) {
    if (ownerOf(external_ids) !== host.instance || datapath_type !== 'netdev') continue
    if (await markBridgeDevice(host, name, call)) marked.push(name)
  }
  return marked
}
