import { constants } from 'node:os'
import { parentPort } from 'node:worker_threads'
import type { LinkEvent } from './link.js'
import { decodeLink, isDeviceMessage, RTM_DELLINK, RTM_NEWLINK, RTNLGRP_LINK } from './netlink/link-message.js'
import type { NetlinkMessage } from './netlink/message.js'
import { NETLINK_ROUTE, openNetlinkListener, receiveBuffer, receiveMessages } from './netlink/socket.js'
import { EFD_CLOEXEC, foreverMs, loadSyscalls, type Syscalls } from './syscall.js'
import type { WatchReply } from './watch.js'
import { refusalOf } from './worker-context.js'

/** The thread that hears link events. It is told to end through an eventfd, for it sits in poll(2). */

const backlogBytes = 4 * 1024 * 1024

function start(): void {
  const port = parentPort
  if (port === null) throw new Error('this file is for a worker thread')
  const post = (reply: WatchReply) => {
    port.postMessage(reply)
  }
  const syscalls = loadSyscalls()
  const stopFd = syscalls.eventfd(0, EFD_CLOEXEC)
  if (stopFd < 0) {
    post({ type: 'unusable', refusal: refusalOf(-stopFd, 'eventfd') })
    return
  }
  const listener = openNetlinkListener(syscalls, NETLINK_ROUTE, RTNLGRP_LINK, backlogBytes)
  if (!listener.ok) {
    syscalls.close(stopFd)
    post({ type: 'unusable', refusal: refusalOf(listener.errno, 'netlink socket') })
    return
  }
  // The descriptor is now the other side's, which writes to it and closes it when this thread has ended.
  post({ type: 'listening', stopFd })
  try {
    listen(syscalls, listener.value, stopFd, events => {
      post({ type: 'events', events })
    })
  } finally {
    syscalls.close(listener.value)
  }
}

function listen(syscalls: Syscalls, fd: number, stopFd: number, emit: (events: LinkEvent[]) => void): void {
  const buffer = receiveBuffer()
  for (;;) {
    const { result, ready } = syscalls.poll([fd, stopFd], foreverMs)
    if (result < 0 || ready[1] === true) return
    const received = receiveMessages(syscalls, fd, buffer)
    if (typeof received !== 'number') emit(received.flatMap(eventsOf))
    else if (received === -constants.errno.ENOBUFS) emit([{ type: 'overrun' }])
    else return
  }
}

function eventsOf({ type, payload }: NetlinkMessage): LinkEvent[] {
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

start()
