import type { Qos } from '../../src/gen/ovs/bridge/v1/qos.js'
import { addAddress } from './links.js'
import type { Namespace } from './namespace.js'
import type { ServedTestbed } from './service.js'

/** A container on a bridge through a tap of the service, with an address on its `veth0`. */
export async function plug(
  bed: Pick<ServedTestbed, 'createContainer' | 'api'>,
  tap: string,
  address: string,
  on: { readonly bridge?: string; readonly vlan?: number; readonly qos?: Qos } = {},
): Promise<Namespace> {
  const container = bed.createContainer(tap)
  await bed.api.createContainerTap({ tap, netns: container.path, vethIndex: 0, ...on })
  container.run(() => addAddress('veth0', address))
  return container
}
