/** Captures of network devices, to pcap files and as pcapng streams. Knows no Open vSwitch. */
export {
  type CaptureFile,
  closeFile,
  createCaptureFile,
  removeCaptureFile,
} from './capture-file.js'
export type { Counters, RunningCapture } from './capture-thread.js'
export { type CaptureEngine, openCaptureEngine } from './engine.js'
export { CaptureError, type CaptureProblem } from './errors.js'
export { faultOfFilter, libpcapVersion } from './libpcap.js'
export type { CaptureEnd, FileLimits, StreamChunk } from './messages.js'
export {
  baseNameOf,
  defaultSnapLen,
  parseSnapLen,
  ringFileName,
  type SnapLen,
} from './names.js'
export type { StreamSource } from './pcapng.js'
export type { CaptureStore } from './quota.js'
