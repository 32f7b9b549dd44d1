/** A private Open vSwitch: the only place that starts processes. Knows nothing of bridges and taps. */
export { type EmbeddedEvent, type EmbeddedOvs, startEmbedded } from './embedded.js'
export { EmbeddedError } from './errors.js'
