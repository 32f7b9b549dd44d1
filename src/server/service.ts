import type { Captures } from '../bridge/capture.js'
import type { Host } from '../bridge/host.js'
import { countRecords } from '../bridge/inventory.js'
import type { BridgeServiceServer } from '../gen/ovs/bridge/v1/service.js'
import { addBondOn, deleteBondOn } from './bond.js'
import {
  destroyAllBridgesOn,
  destroyBridgeOn,
  destroyUnmanagedBridgeOn,
  ensureBridgeOn,
  getBridgeOn,
  listBridgesOn,
  setBridgeConfigOn,
} from './bridge.js'
import type { Calls } from './call.js'
import { listCapturesOn, startCaptureOn, stopAllCapturesOn, stopCaptureOn, streamCaptureOn } from './capture.js'
import { checkOvsOn } from './check.js'
import { reportDriftOn } from './drift.js'
import { createMirrorOn, destroyMirrorOn } from './mirror.js'
import {
  addNetflowWriterOn,
  createNetflowOn,
  destroyNetflowOn,
  getNetflowOn,
  removeNetflowWriterOn,
  setNetflowTimeoutOn,
  watchFlowsOn,
} from './netflow.js'
import { getQosOn, removeQosOn, updateQosOn } from './qos.js'
import {
  addTapOn,
  createContainerTapOn,
  createHostTapOn,
  createTapOn,
  createTapsOn,
  destroyTapOn,
  destroyUnmanagedTapOn,
  getTapOn,
  listTapsOn,
  moveTapOn,
  reapTapsOn,
  removeTapOn,
  reserveTapNameOn,
  setTapQinQOn,
} from './tap.js'
import { addTrunkOn, addTunnelOn, removeTrunkOn, removeTunnelOn } from './uplink.js'
import { getBandwidthOn, type Watched, watchAddressesOn, watchTapStatsOn, watchTapsOn } from './watch.js'

/** The handlers of ovs.bridge.v1.BridgeService over one host. */
export function bridgeService(
  host: Host,
  calls: Calls,
  { feed, stats }: Watched,
  captures: Captures,
): BridgeServiceServer {
  return {
    checkOvs: calls.unary(checkOvsOn(host)),
    reportDrift: calls.unary(reportDriftOn(host)),
    ensureBridge: calls.unary(ensureBridgeOn(host)),
    getBridge: calls.unary(getBridgeOn(host)),
    listBridges: calls.unary(listBridgesOn(host)),
    destroyBridge: calls.unary(destroyBridgeOn(host), {
      taps: ({ bridge }) => countRecords(host, tap => tap.bridge === bridge),
    }),
    destroyAllBridges: calls.unary(destroyAllBridgesOn(host), {
      taps: () => countRecords(host, tap => tap.bridge !== undefined),
    }),
    destroyUnmanagedBridge: calls.unary(destroyUnmanagedBridgeOn(host)),
    setBridgeConfig: calls.unary(setBridgeConfigOn(host)),
    createTap: calls.unary(createTapOn(host)),
    createTaps: calls.unary(createTapsOn(host), { taps: ({ taps }) => taps.length }),
    createContainerTap: calls.unary(createContainerTapOn(host)),
    createHostTap: calls.unary(createHostTapOn(host)),
    reserveTapName: calls.unary(reserveTapNameOn(host)),
    addTap: calls.unary(addTapOn(host)),
    removeTap: calls.unary(removeTapOn(host)),
    moveTap: calls.unary(moveTapOn(host)),
    setTapQinQ: calls.unary(setTapQinQOn(host)),
    getTap: calls.unary(getTapOn(host)),
    listTaps: calls.unary(listTapsOn(host)),
    watchTaps: calls.serverStream(watchTapsOn(feed)),
    watchAddresses: calls.serverStream(watchAddressesOn(host.addresses)),
    watchTapStats: calls.serverStream(watchTapStatsOn(stats)),
    getBandwidth: calls.unary(getBandwidthOn(stats)),
    destroyTap: calls.unary(destroyTapOn(host)),
    destroyUnmanagedTap: calls.unary(destroyUnmanagedTapOn(host)),
    reapTaps: calls.unary(reapTapsOn(host), { taps: () => countRecords(host, tap => tap.defunct) }),
    addBond: calls.unary(addBondOn(host)),
    deleteBond: calls.unary(deleteBondOn(host)),
    createMirror: calls.unary(createMirrorOn(host)),
    destroyMirror: calls.unary(destroyMirrorOn(host)),
    addTrunk: calls.unary(addTrunkOn(host)),
    removeTrunk: calls.unary(removeTrunkOn(host)),
    addTunnel: calls.unary(addTunnelOn(host)),
    removeTunnel: calls.unary(removeTunnelOn(host)),
    updateQos: calls.unary(updateQosOn(host)),
    getQos: calls.unary(getQosOn(host)),
    removeQos: calls.unary(removeQosOn(host)),
    createNetflow: calls.unary(createNetflowOn(host)),
    getNetflow: calls.unary(getNetflowOn(host)),
    setNetflowTimeout: calls.unary(setNetflowTimeoutOn(host)),
    destroyNetflow: calls.unary(destroyNetflowOn(host)),
    addNetflowWriter: calls.unary(addNetflowWriterOn(host)),
    removeNetflowWriter: calls.unary(removeNetflowWriterOn(host)),
    watchFlows: calls.serverStream(watchFlowsOn(host)),
    startCapture: calls.unary(startCaptureOn(captures)),
    stopCapture: calls.unary(stopCaptureOn(captures)),
    stopAllCaptures: calls.unary(stopAllCapturesOn(captures)),
    listCaptures: calls.unary(listCapturesOn(captures)),
    streamCapture: calls.serverStream(streamCaptureOn(captures)),
  }
}
