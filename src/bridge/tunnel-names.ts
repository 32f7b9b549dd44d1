import { NameSeries } from './name-series.js'

/** ovs-vswitchd.conf.db(5), Interface.type. */
export type TunnelType = 'vxlan' | 'gre' | 'geneve'

/** Names for the tunnels of each type. */
export type TunnelNames = Readonly<Record<TunnelType, NameSeries>>

/** Names that are not those of the kernel's own devices, such as gre0 and vxlan_sys_4789. */
export function newTunnelNames(): TunnelNames {
  return {
    vxlan: new NameSeries({ prefix: 'ovsvxlan', suffix: '' }),
    gre: new NameSeries({ prefix: 'ovsgre', suffix: '' }),
    geneve: new NameSeries({ prefix: 'ovsgeneve', suffix: '' }),
  }
}
