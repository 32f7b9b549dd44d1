/** Sizes of captures, as the room that writes them takes them. */
export { defaultSnapLen, parseSnapLen, type SnapLen } from '../capture/index.js'
