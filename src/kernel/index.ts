/** Links, taps and veths over netlink and /dev/net/tun. Knows no Open vSwitch. */
export { isBornFor } from './birth-mac.js'
export { claimName } from './claim.js'
export { KernelError, type KernelProblem, type Where } from './errors.js'
export { type Kernel, openKernel } from './kernel.js'
export type {
  Deletion,
  KernelFacts,
  Link,
  LinkChange,
  LinkEvent,
  LinkStatistics,
  LinkTarget,
  Policer,
  Qdisc,
  QdiscEvent,
  QdiscSpec,
  Refusal,
  TapSpec,
  TunFacts,
  Veth,
  VethSpec,
} from './link.js'
export { type LinkName, type MacAddress, parseLinkName, parseMacAddress } from './names.js'
export { openPeerLookup, type Peer } from './peer.js'
