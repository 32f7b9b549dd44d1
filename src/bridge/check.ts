import { libpcapVersion } from '../capture/index.js'
import type { KernelFacts } from '../kernel/index.js'
import type { Call } from './call.js'
import type { Host } from './host.js'
import { type DatapathType, rootOf } from './ovs.js'
import type { Recovered, Repair } from './recovered.js'

/** A thing the service rests on. */
export interface Dependency {
  readonly name: string
  readonly present: boolean
  /** Empty where it has none. */
  readonly version: string
  /** What to do to get it; empty when it is there. */
  readonly remedy: string
  /** Nothing works without it. */
  readonly required: boolean
}

/** The state of what the service rests on. */
export interface Health {
  readonly ovsVersion: string
  readonly dbVersion: string
  /** Sorted. */
  readonly datapathTypes: readonly string[]
  readonly datapathType: DatapathType
  readonly ovsdbConnected: boolean
  readonly vswitchdAnswers: boolean
  readonly dependencies: readonly Dependency[]
  readonly warnings: readonly string[]
  /** The latest first. */
  readonly recoveries: readonly Recovered[]
}

/** Looks at everything and writes nothing. What cannot be reached is told, not thrown. */
export async function checkOvs(host: Host, call: Call): Promise<Health> {
  const facts = await host.kernel.probe(call.signal)
  const root = rootOf(host.ovsdb.replica)
  const ovsdbConnected = host.ovsdb.status.state === 'ready'
  const vswitchdAnswers = (await host.askVswitchd(call.signal)) !== undefined
  const tso = root?.other_config.get('userspace-tso-enable') === 'true'
  return {
    ovsVersion: root?.ovs_version ?? '',
    dbVersion: root?.db_version ?? '',
    datapathTypes: [...(root?.datapath_types ?? [])].sort(),
    datapathType: host.datapathType,
    ovsdbConnected,
    vswitchdAnswers,
    dependencies: dependencies(host, facts, root?.ovs_version ?? '', { ovsdbConnected, vswitchdAnswers }),
    warnings: warnings(host, facts, tso),
    recoveries: host.recoveries,
  }
}

function dependencies(
  host: Host,
  facts: KernelFacts,
  ovsVersion: string,
  backends: { readonly ovsdbConnected: boolean; readonly vswitchdAnswers: boolean },
): Dependency[] {
  const pcap = libpcapVersion()
  const thing = (name: string, present: boolean, required: boolean, remedy: string, version = ''): Dependency => ({
    name,
    present,
    required,
    version: present ? version : '',
    remedy: present ? '' : remedy,
  })
  return [
    thing(
      'ovsdb-server',
      backends.ovsdbConnected,
      true,
      'start ovsdb-server (systemctl start ovsdb-server)',
      ovsVersion,
    ),
    thing(
      'ovs-vswitchd',
      backends.vswitchdAnswers,
      true,
      'start ovs-vswitchd (systemctl start ovs-vswitchd)',
      ovsVersion,
    ),
    thing('libpcap', pcap !== undefined, false, 'apt-get install libpcap0.8', pcap),
    thing('/dev/net/tun', facts.tunDevice, true, 'modprobe tun'),
    thing('CAP_NET_ADMIN', facts.netAdmin, true, 'run as root, or with AmbientCapabilities=CAP_NET_ADMIN'),
    thing('openvswitch', facts.openvswitch, host.datapathType === 'system', 'modprobe openvswitch'),
    thing('sch_netem', facts.netem, false, 'modprobe sch_netem'),
    thing('sch_tbf', facts.tbf, false, 'modprobe sch_tbf'),
    thing('act_police', facts.police, false, 'modprobe act_police'),
  ]
}

function warnings(host: Host, facts: KernelFacts, tso: boolean): string[] {
  const said: string[] = []
  if (host.datapathType === 'netdev' && !tso) {
    said.push(
      'TCP between container taps fails on the userspace datapath: set Open_vSwitch.other_config:userspace-tso-enable=true and restart ovs-vswitchd',
    )
  }
  if (host.datapathType === 'system' && !facts.openvswitch) {
    said.push('the kernel has no Open vSwitch datapath: bridges of type system will not work')
  }
  for (const [repair, names] of host.outstanding) said.push(outstandingWarning(repair, names))
  return said
}

function outstandingWarning(repair: Repair, names: readonly string[]): string {
  const named = names.slice(0, 3).join(', ')
  const more = names.length > 3 ? ` and ${names.length - 3} more` : ''
  return `recovery is outstanding, and tried again: ${repair}${names.length === 0 ? '' : ` of ${named}${more}`}`
}
