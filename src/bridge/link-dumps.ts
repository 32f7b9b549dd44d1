import type { Link } from '../kernel/index.js'
import { type Moment, now } from '../lib/moment.js'
import { sharing } from '../lib/sharing.js'

/** All links with their counters, by name. */
export interface LinkDump {
  readonly links: ReadonlyMap<string, Link>
  readonly at: Moment
}

/** Half of the least interval: no meter that is on time gets a dump twice. */
const freshForMs = 100

/**
 * Reads all links, but not more often than every 100 ms, however many ask and at whichever intervals: a dump holds the
 * kernel's lock over all links for as long as it takes.
 */
export function newLinkDumps(
  listLinks: () => Promise<readonly Link[]>,
  clock: () => Moment = now,
): { readonly latest: () => Promise<LinkDump>; readonly forget: () => void } {
  let last: LinkDump | undefined
  const dump = sharing(async () => {
    const links = new Map((await listLinks()).map(link => [link.name, link]))
    last = { links, at: clock() }
    return last
  })
  return {
    latest: async () => (last !== undefined && clock().steadyMs - last.at.steadyMs < freshForMs ? last : await dump()),
    forget: () => {
      last = undefined
    },
  }
}
