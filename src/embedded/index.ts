/** A private Open vSwitch: the only place that starts processes. Knows nothing of bridges and taps. */

export type { Versions } from './database.js'
export { type EmbeddedEvent, type EmbeddedOvs, startEmbedded } from './embedded.js'
export { EmbeddedError, type Exit } from './errors.js'
export type { Programs } from './programs.js'
export type { ProcessEvent, ProcessStatus } from './supervise.js'
