import { TapNames } from './tap-name.js'

/** ovs-vswitchd.conf.db(5), Interface.type. */
export type TunnelType = 'vxlan' | 'gre' | 'geneve'

/** Names for the tunnels of each type. */
export type TunnelNames = Readonly<Record<TunnelType, TapNames>>

/** Names that are not those of the kernel's own devices, such as gre0 and vxlan_sys_4789. */
export function newTunnelNames(): TunnelNames {
  return {
    vxlan: new TapNames({ prefix: 'ovsvxlan', suffix: '' }),
    gre: new TapNames({ prefix: 'ovsgre', suffix: '' }),
    geneve: new TapNames({ prefix: 'ovsgeneve', suffix: '' }),
  }
}
