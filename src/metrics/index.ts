import type { TcpAddress } from '../lib/socket-address.js'
import { addressRegistry } from './addresses.js'
import { type Door, openDoor } from './door.js'
import { ovsdbRegistry } from './ovsdb.js'
import { Pages } from './page.js'
import { type Present, presentRegistry, processRegistry } from './present.js'
import type { Tally } from './tally.js'
import { tapLines } from './tap-lines.js'

export type { Door } from './door.js'
export type { Present } from './present.js'
export { newTally, type Tally } from './tally.js'

export interface MetricsOptions {
  readonly address: TcpAddress
  /** What has happened. */
  readonly tally: Tally
  /** How things stand. */
  readonly present: Present
  readonly onError: (error: unknown) => void
}

/** Opens the door to Prometheus: what has happened, how things stand, how the process is, what each tap has counted. */
export function serveMetrics({ address, tally, present, onError }: MetricsOptions): Promise<Door> {
  const registries = [
    tally.registry,
    presentRegistry(present),
    addressRegistry(present.addresses),
    ovsdbRegistry(present.ovsdb),
    processRegistry(),
  ]
  const pages = new Pages()
  const render = () => pages.render(registries, () => tapLines(present.tapTotals()))
  return openDoor({ address, onError, render })
}
