import { constants } from 'node:os'
import { parentPort, workerData } from 'node:worker_threads'
import { foreverMs } from '../lib/poll-set.js'
import { EFD_CLOEXEC, loadSyscalls, type Syscalls } from '../lib/syscall.js'
import type { LinkEvent, QdiscEvent } from './link.js'
import { decodeLink, isDeviceMessage, RTM_DELLINK, RTM_NEWLINK, RTNLGRP_LINK } from './netlink/link-message.js'
import type { NetlinkMessage } from './netlink/message.js'
import { ingressDevice, RTM_DELTFILTER } from './netlink/policer-message.js'
import { decodeRootQdisc, RTM_DELQDISC, RTM_NEWQDISC, RTNLGRP_TC } from './netlink/qdisc-message.js'
import { NETLINK_ROUTE, openNetlinkListener, receiveBuffer, receiveMessages } from './netlink/socket.js'
import type { Topic, Topics, WatchOrder, WatchReply } from './watch.js'
import { refusalOf } from './worker-context.js'

/** The thread that hears the events of one topic. It is told to end through an eventfd, for it sits in poll(2). */

const backlogBytes = 4 * 1024 * 1024

/** The multicast group of a topic, and what its messages say. */
type Sources = {
  readonly [T in Topic]: {
    readonly group: number
    readonly read: (message: NetlinkMessage, ownPortId: number) => Topics[T][]
  }
}

const sources: Sources = {
  links: { group: RTNLGRP_LINK, read: linkEventsOf },
  qdiscs: { group: RTNLGRP_TC, read: qdiscEventsOf },
}

function start<T extends Topic>(topic: T, ownPortId: number): void {
  const port = parentPort
  if (port === null) throw new Error('this file is for a worker thread')
  const { group, read } = sources[topic]
  const post = (reply: WatchReply<T>) => {
    port.postMessage(reply)
  }
  const syscalls = loadSyscalls()
  const stopFd = syscalls.eventfd(0, EFD_CLOEXEC)
  if (stopFd < 0) {
    post({ type: 'unusable', refusal: refusalOf(-stopFd, 'eventfd') })
    return
  }
  const listener = openNetlinkListener(syscalls, NETLINK_ROUTE, group, backlogBytes)
  if (!listener.ok) {
    syscalls.close(stopFd)
    post({ type: 'unusable', refusal: refusalOf(listener.errno, 'netlink socket') })
    return
  }
  // The descriptor is now the other side's, which writes to it and closes it when this thread has ended.
  post({ type: 'listening', stopFd })
  try {
    listen(syscalls, listener.value, stopFd, messages => {
      if (messages === 'overrun') post({ type: 'events', events: [{ type: 'overrun' }] })
      else post({ type: 'events', events: messages.flatMap(message => read(message, ownPortId)) })
    })
  } finally {
    syscalls.close(listener.value)
  }
}

function listen(
  syscalls: Syscalls,
  fd: number,
  stopFd: number,
  emit: (messages: NetlinkMessage[] | 'overrun') => void,
): void {
  const buffer = receiveBuffer()
  const polled = syscalls.newPollSet()
  polled.add(fd)
  polled.add(stopFd)
  for (;;) {
    if (polled.wait(foreverMs) < 0 || polled.readiness(1) !== 'idle') return
    const received = receiveMessages(syscalls, fd, buffer)
    if (typeof received !== 'number') emit(received)
    else if (received === -constants.errno.ENOBUFS) emit('overrun')
    else return
  }
}

function linkEventsOf({ type, payload }: NetlinkMessage): LinkEvent[] {
  if (!isDeviceMessage(payload)) return []
  switch (type) {
    case RTM_NEWLINK:
      return [{ type: 'changed', link: decodeLink(payload) }]
    case RTM_DELLINK: {
      const { index, name } = decodeLink(payload)
      return [{ type: 'gone', index, name }]
    }
    default:
      return []
  }
}

function qdiscEventsOf({ type, portId, payload }: NetlinkMessage, ownPortId: number): QdiscEvent[] {
  const policed = type === RTM_DELQDISC || type === RTM_DELTFILTER ? ingressDevice(payload) : undefined
  if (policed !== undefined) return [{ type: 'ingress-gone', index: policed }]
  const root = type === RTM_NEWQDISC || type === RTM_DELQDISC ? decodeRootQdisc(payload) : undefined
  if (root === undefined) return []
  if (type === RTM_DELQDISC) return [{ type: 'gone', index: root.index }]
  return [{ type: 'changed', ...root, byUs: portId === ownPortId }]
}

function parseOrder(data: unknown): WatchOrder {
  if (typeof data !== 'object' || data === null || !('topic' in data) || !('ownPortId' in data)) {
    throw new Error('this thread has no order')
  }
  return { topic: data.topic === 'qdiscs' ? 'qdiscs' : 'links', ownPortId: Number(data.ownPortId) }
}

const { topic, ownPortId } = parseOrder(workerData)
start(topic, ownPortId)
