import { randomInt } from 'node:crypto'
import { constants } from 'node:os'
import type { Deletion, Device, Link, LinkTarget } from './link.js'
import {
  encodeGroupDeletion,
  encodeLinkChange,
  encodeLinkDeletion,
  RTM_DELLINK,
  RTM_SETLINK,
} from './netlink/link-message.js'
import { isAborted } from './operations.js'
import { attempted, dumpLinks, type Outcome, refusalOf, type WorkerContext } from './worker-context.js'

export function deleteLinks(
  context: WorkerContext,
  targets: readonly LinkTarget[],
  stage: Int32Array,
): Outcome<Deletion> {
  return { value: removeLinks(context, targets, () => isAborted(stage)) }
}

const operation = 'deleteLinks'

/**
 * Each deletion alone waits for a grace period of RCU. A group of devices is deleted in one, so several go into a group
 * of their own first. That only tun and veth are put there matters: one device that rtnetlink cannot
 * delete spoils the group.
 */
export function removeLinks(context: WorkerContext, targets: readonly LinkTarget[], stopped = () => false): Deletion {
  const deletion: Deletion = { deleted: [], missing: [], failed: [] }
  const links = dumpLinks(context, operation, false)
  const doomed = present(links, targets, deletion.missing)
  const groupable = doomed.filter(isGroupable)
  const alone = groupable.length > 1 ? doomed.filter(link => !isGroupable(link)) : doomed
  const left = groupable.length > 1 ? deleteGroup(context, links, groupable, deletion) : []
  for (const link of [...alone, ...left]) {
    if (stopped()) break
    deleteOne(context, link, deletion)
  }
  return deletion
}

/** Deletes what was made in vain. What the kernel does not let go stays, and nobody is there to be told. */
export function discard(context: WorkerContext, devices: readonly Device[]): void {
  if (devices.length > 0) attempted(() => removeLinks(context, devices))
}

function present(links: readonly Link[], targets: readonly LinkTarget[], missing: string[]): Link[] {
  const byName = new Map(links.map(link => [link.name, link]))
  const doomed = new Set<Link>()
  for (const { name, index } of targets) {
    const link = byName.get(name)
    if (link === undefined || (index !== undefined && index !== link.index)) missing.push(name)
    else doomed.add(link)
  }
  return [...doomed]
}

function isGroupable({ kind }: Link): boolean {
  return kind === 'tun' || kind === 'veth'
}

/** Deletes what it can in one message; returns what has to be deleted singly. */
function deleteGroup(
  context: WorkerContext,
  links: readonly Link[],
  doomed: readonly Link[],
  deletion: Deletion,
): Link[] {
  const group = unusedGroup(links)
  const gathered = doomed.filter(link => joinGroup(context, link, group, deletion))
  const members = dumpLinks(context, operation, false).filter(link => link.group === group)
  const ours = new Set(gathered.map(link => link.index))
  if (members.length === 0) return gathered
  if (!members.every(member => ours.has(member.index) && isGroupable(member))) return gathered
  const answer = context.route.request({ type: RTM_DELLINK, payload: encodeGroupDeletion(group) })
  if (answer.errno !== 0) return gathered
  const gone = new Set(members.map(member => member.index))
  deletion.deleted.push(...gathered.filter(link => gone.has(link.index)).map(link => link.name))
  return gathered.filter(link => !gone.has(link.index))
}

/** False when the device is gone, or refuses: then that is noted. */
function joinGroup({ route }: WorkerContext, link: Link, group: number, deletion: Deletion): boolean {
  const answer = route.request({ type: RTM_SETLINK, payload: encodeLinkChange(link.index, { group }) })
  if (answer.errno === 0) return true
  note(deletion, link.name, answer.errno, answer.text)
  return false
}

function deleteOne({ route }: WorkerContext, link: Link, deletion: Deletion): void {
  const answer = route.request({ type: RTM_DELLINK, payload: encodeLinkDeletion(link.index) })
  note(deletion, link.name, answer.errno, answer.text)
}

function note(deletion: Deletion, name: string, errno: number, message: string): void {
  if (errno === 0) deletion.deleted.push(name)
  else if (errno === constants.errno.ENODEV) deletion.missing.push(name)
  else deletion.failed.push({ name, error: refusalOf(errno, message) })
}

/** Random, so that two daemons on one host do not meet; 0 is everybody's. */
function unusedGroup(links: readonly Link[]): number {
  const used = new Set(links.map(link => link.group))
  for (;;) {
    const group = randomInt(1, 2 ** 31)
    if (!used.has(group)) return group
  }
}
