import { isIPv6 } from 'node:net'
import { bridgeOf, type OvsReplica, type OvsRows } from './ovs.js'

/**
 * Why nothing will come through a tunnel as things are; undefined: nothing known. Open vSwitch tells by which device its
 * route leaves (ovs-vswitchd.conf.db(5), Interface.status:tunnel_egress_iface), and follows the routes.
 */
export function tunnelWarning(replica: OvsReplica, name: string): string | undefined {
  const row = replica.find('Interface', 'name', name)
  if (row === undefined) return undefined
  const remote = row.options.get('remote_ip') ?? ''
  const egress = row.status.get('tunnel_egress_iface')
  if (egress === undefined) return `there is no route to ${remote}`
  const through = bridgeOfPort(replica, egress)
  const own = bridgeOfPort(replica, name)
  if (through === undefined) {
    if (own?.datapath_type !== 'netdev') return undefined
    return `the route to ${remote} leaves by ${egress}, which is no port of a bridge: the userspace datapath sends nothing by it`
  }
  if (own?.datapath_type === 'netdev' && isIPv6(remote) && egress !== through.name) {
    return `the route to ${remote} leaves by ${egress}: the userspace datapath finds IPv6 neighbours only by the device of a bridge itself, ${through.name}`
  }
  if (through._uuid !== own?._uuid) return undefined
  return `the route to ${remote} leaves by ${egress}, a port of the tunnel's own bridge: what the tunnel sends comes back into it`
}

function bridgeOfPort(replica: OvsReplica, name: string): OvsRows['Bridge'] | undefined {
  const port = replica.find('Port', 'name', name)
  return port && bridgeOf(replica, port)
}
