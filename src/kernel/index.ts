/** Links, taps and veths over netlink and /dev/net/tun. Knows no Open vSwitch. */
export { isBornFor } from './birth-mac.js'
export { claimName } from './claim.js'
export { KernelError, type KernelProblem } from './errors.js'
export { type Kernel, openKernel } from './kernel.js'
export type {
  Deletion,
  Device,
  KernelFacts,
  Link,
  LinkEvent,
  LinkTarget,
  Qdisc,
  QdiscEvent,
  QdiscSpec,
  TapSpec,
  VethSpec,
} from './link.js'
export { type LinkName, type MacAddress, parseLinkName, parseMacAddress } from './names.js'
export { openPeerLookup } from './peer.js'
