import { littleEndian, viewOf } from '../../lib/byte-order.js'
import type { Policer } from '../link.js'
import { type Attributes, decodeAttributes, encodeAttributes, nested, readNested, readText, text } from './attribute.js'
import { concatenate } from './message.js'
import { afterTcHeader, decodeTcHeader, encodeTcHeader, TC_H_INGRESS, TCA_KIND, TCA_OPTIONS } from './tc-message.js'

// rtnetlink(7), <linux/rtnetlink.h>
export const RTM_NEWTFILTER = 44
export const RTM_DELTFILTER = 45
export const RTM_GETTFILTER = 46
export const RTM_NEWACTION = 48

/** Of the one ingress qdisc that a device may have. */
const ingressHandle = 0xffff_0000

// <linux/pkt_cls.h>
const TCA_ACT_TAB = 1
const TCA_ACT_KIND = 1
const TCA_ACT_OPTIONS = 2
const TCA_POLICE_TBF = 1
const TCA_POLICE_RATE64 = 8

/** Classifiers that match every frame, and where each keeps its actions (TCA_BASIC_ACT, TCA_MATCHALL_ACT). */
const actionsOfKind: ReadonlyMap<string, number> = new Map([
  ['basic', 3],
  ['matchall', 2],
])

const tcamsgBytes = 4
/** Of the rate in `struct tc_police`: five words and the head of a `struct tc_ratespec` come before. */
const policeRateOffset = 28

/** RTM_GETTFILTER of all filters on what the device receives; a dump. */
export function encodeIngressFilterDump(index: number): Uint8Array {
  return encodeTcHeader({ index, handle: 0, parent: ingressHandle })
}

/** RTM_DELQDISC of what treats the frames that the device receives. */
export function encodeIngressQdisc(index: number): Uint8Array {
  return encodeTcHeader({ index, handle: ingressHandle, parent: TC_H_INGRESS })
}

/** RTM_NEWACTION of a policer without its options. */
export function encodeBarePolicer(): Uint8Array {
  const actions = nested(TCA_ACT_TAB, [nested(1, [text(TCA_ACT_KIND, 'police')])])
  return concatenate(new Uint8Array(tcamsgBytes), encodeAttributes([actions]))
}

/** Reads RTM_NEWTFILTER; undefined when the filter polices nothing. */
export function decodePolicer(payload: Uint8Array): Policer | undefined {
  const attributes = decodeAttributes(afterTcHeader(payload))
  const actions = actionsOfKind.get(readText(attributes, TCA_KIND) ?? '')
  if (actions === undefined) return undefined
  for (const [, action] of readNested(readNested(attributes, TCA_OPTIONS), actions)) {
    const policer = decodeAction(decodeAttributes(action))
    if (policer !== undefined) return policer
  }
  return undefined
}

function decodeAction(action: Attributes): Policer | undefined {
  if (readText(action, TCA_ACT_KIND) !== 'police') return undefined
  const options = readNested(action, TCA_ACT_OPTIONS)
  const police = options.get(TCA_POLICE_TBF)
  if (police === undefined) return undefined
  const wide = options.get(TCA_POLICE_RATE64)
  const bytesPerSecond =
    wide === undefined
      ? viewOf(police).getUint32(policeRateOffset, littleEndian)
      : Number(viewOf(wide).getBigUint64(0, littleEndian))
  return { bytesPerSecond }
}

/** The device whose ingress qdisc, or a filter of it, a message is about; undefined for any other. */
export function ingressDevice(payload: Uint8Array): number | undefined {
  const { index, parent } = decodeTcHeader(payload)
  return parent === TC_H_INGRESS || parent === ingressHandle ? index : undefined
}
