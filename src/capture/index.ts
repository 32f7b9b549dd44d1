/**
 * Packets of network devices: captures to pcap files and as pcapng streams, and what is heard of addresses. Knows no
 * Open vSwitch.
 */
export {
  type CaptureFile,
  closeFile,
  createCaptureFile,
  removeCaptureFile,
} from './capture-file.js'
export type { RunningCapture } from './capture-thread.js'
export { type CaptureEngine, openCaptureEngine } from './engine.js'
export { CaptureError } from './errors.js'
export { faultOfFilter, libpcapVersion } from './libpcap.js'
export type { CaptureEnd, StreamChunk } from './messages.js'
export {
  baseNameOf,
  defaultSnapLen,
  parseSnapLen,
  ringFileName,
  type SnapLen,
} from './names.js'
export type { StreamSource } from './pcapng.js'
export type { CaptureStore } from './quota.js'
export { type HeardFrame, openSnoop, type Snoop, SnoopError } from './snoop.js'
