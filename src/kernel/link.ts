import type { LinkName, MacAddress } from './names.js'

/** Counters since the device was made, seen from the host (`rtnl_link_stats64`): received is what the host got from it. */
export interface LinkStatistics {
  readonly rxBytes: bigint
  readonly rxPackets: bigint
  readonly rxErrors: bigint
  readonly rxDropped: bigint
  readonly txBytes: bigint
  readonly txPackets: bigint
  readonly txErrors: bigint
  readonly txDropped: bigint
}

/** What a tun or tap device tells of itself (`IFLA_TUN_*`). */
export interface TunFacts {
  /** The user who may attach to it; absent when only CAP_NET_ADMIN may. */
  readonly ownerUid?: number
  readonly persistent: boolean
  readonly multiQueue: boolean
}

/** One network device, as rtnetlink(7) tells it. */
export interface Link {
  /** Never given twice while the namespace lives: the identity of the device. */
  readonly index: number
  readonly name: string
  /** IFLA_INFO_KIND: `tun`, `veth`, `openvswitch`…; empty for hardware and the loopback. */
  readonly kind: string
  readonly tun?: TunFacts
  /** Lower case with colons; empty for a device without a link-layer address. */
  readonly mac: string
  readonly mtuBytes: number
  readonly group: number
  /** Administratively up (IFF_UP); whether there is a carrier is another matter. */
  readonly up: boolean
  readonly promiscuous: boolean
  readonly alias: string
  /** A veth's other end: its index in its own namespace. */
  readonly peerIndex?: number
  /** The kernel's id of the namespace of a veth's other end; absent when it is this one. */
  readonly peerNetnsId?: number
  readonly statistics: LinkStatistics
}

export interface TapSpec {
  readonly name: LinkName
  /** IFLA_IFALIAS, at most 255 bytes: for the caller's own mark. */
  readonly alias: string
  /** 68 to 65535; absent: the kernel's 1500. */
  readonly mtuBytes?: number
  /** The user who may attach without CAP_NET_ADMIN. */
  readonly ownerUid?: number
  readonly multiQueue: boolean
}

export interface VethSpec {
  /** The end that stays here. */
  readonly name: LinkName
  /** IFLA_IFALIAS of the end that stays here, at most 255 bytes. */
  readonly alias: string
  /** Of both ends; absent: the kernel's 1500. */
  readonly mtuBytes?: number
  /** Where the peer is made: a name under /run/netns (ip-netns(8)) or an absolute path such as `/proc/<pid>/ns/net`. */
  readonly netns: string
  readonly peerName: LinkName
  /** The peer's address; absent: a random locally administered one. */
  readonly mac?: MacAddress
}

/** A veth pair just made. */
export interface Veth {
  readonly link: Link
  readonly peerMac: MacAddress
}

/** What to change; what is absent stays as it is. */
export interface LinkChange {
  readonly up?: boolean
  readonly promiscuous?: boolean
  readonly mtuBytes?: number
  /** Empty takes the alias away. */
  readonly alias?: string
  /** Keeps the host's own ARP and IPv6 off the device; to be set before it comes up. */
  readonly silent?: true
}

/** A device by its identity. */
export type Device = Pick<Link, 'name' | 'index'>

/** A device to delete. With `index`, a later device of the same name is left alone. */
export interface LinkTarget {
  readonly name: string
  readonly index?: number
}

/** What became of each target, by name. */
export interface Deletion {
  readonly deleted: string[]
  /** Not there, or there under another index. */
  readonly missing: string[]
  readonly failed: { readonly name: string; readonly error: Refusal }[]
}

/** The kernel's no. */
export interface Refusal {
  /** `EBUSY`… as errno(3) spells it. */
  readonly errno: string
  /** The kernel's own words (NLMSGERR_ATTR_MSG), empty when it gave none. */
  readonly message: string
}

/**
 * What befell the devices of the namespace. `subscribed` comes first, once: from then on nothing is missed, so list
 * now. `overrun` says that events were lost: list again. A `changed` may be older than what a listing already showed; a
 * device that was made and deleted meanwhile may show only its end.
 */
export type LinkEvent =
  | { readonly type: 'subscribed' }
  | { readonly type: 'changed'; readonly link: Link }
  | { readonly type: 'gone'; readonly index: number; readonly name: string }
  | { readonly type: 'overrun' }

/**
 * How the root qdisc of a device treats what the host sends into it (tc-tbf(8), tc-netem(8)).
 * Probabilities are fractions of 2^32 − 1, as the kernel has them.
 */
export type QdiscSpec =
  | {
      readonly kind: 'tbf'
      readonly bytesPerSecond: number
      readonly burstBytes: number
      /** What may wait, beyond it packets are dropped. */
      readonly limitBytes: number
    }
  | {
      readonly kind: 'netem'
      /** 0: no limit of its own. */
      readonly bytesPerSecond: number
      readonly limitPackets: number
      readonly delayNs: number
      readonly jitterNs: number
      readonly loss: number
      readonly duplicate: number
      readonly corrupt: number
      readonly reorder: number
    }

/** A root qdisc as it is. */
export interface Qdisc {
  /** `noqueue`, `fq_codel`, `tbf`… */
  readonly kind: string
  /** Set by `setQdisc`, of this process or one before it. */
  readonly ours: boolean
  /** The one that the kernel gives to every device; otherwise somebody has set it. */
  readonly isDefault: boolean
  /** It has settings that `spec` cannot say, such as a correlation or a peak rate: `setQdisc` sets none. */
  readonly hasMore: boolean
  /** Of a tbf or netem; a tbf's burst is only near what was set, the kernel keeps it as a time. */
  readonly spec?: QdiscSpec
}

/** What limits what a device receives, by dropping the rest (the action `police`, tc-police(8)). */
export interface Policer {
  readonly bytesPerSecond: number
}

/**
 * What befell the root qdiscs of the namespace; `subscribed` and `overrun` as in {@link LinkEvent}.
 * `byUs`: by this Kernel. `ingress-gone`: the ingress qdisc of a device, or a filter of it, was taken away.
 */
export type QdiscEvent =
  | { readonly type: 'subscribed' }
  | { readonly type: 'changed'; readonly index: number; readonly qdisc: Qdisc; readonly byUs: boolean }
  | { readonly type: 'gone'; readonly index: number }
  | { readonly type: 'ingress-gone'; readonly index: number }
  | { readonly type: 'overrun' }

/** What this kernel, and our rights in it, offer. */
export interface KernelFacts {
  /** /dev/net/tun opens. */
  readonly tunDevice: boolean
  /** CAP_NET_ADMIN over this namespace. Without it `netem`, `tbf` and `police` cannot be seen and are false. */
  readonly netAdmin: boolean
  /** The generic netlink family `ovs_datapath` is there. */
  readonly openvswitch: boolean
  readonly netem: boolean
  readonly tbf: boolean
  readonly police: boolean
}
