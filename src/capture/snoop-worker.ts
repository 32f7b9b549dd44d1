import { readSync } from 'node:fs'
import { type MessagePort, parentPort, receiveMessageOnPort } from 'node:worker_threads'
import { assertNever } from '../lib/assert-never.js'
import { foreverMs, type PollSet } from '../lib/poll-set.js'
import { EFD_CLOEXEC, loadSyscalls, type Syscalls } from '../lib/syscall.js'
import { messageOf } from '../lib/thrown.js'
import { filterProgram, maxDevices } from './address-filter.js'
import type { HeardFrame } from './address-message.js'
import { decodeFrame } from './decode.js'
import { Noise } from './noise.js'
import { deviceName, openPacketSocket, type Packet, type PacketSocket } from './packet-socket.js'
import type { SnoopOrder, SnoopReply } from './snoop.js'

/**
 * The thread that reads the packet sockets. There are three: one hears what endpoints say; one what is said to them, as far
 * as there is time; and one is too small to hold frames and only counts those of devices that are not heard for the moment.
 */

const windowMs = 250
/** Of one device in a window; 1,000 frames a second. */
const framesPerWindow = 250
/** Of the same thing in a window: what follows is no news, but which address of a tap was seen last may be. */
const maxRepeats = 4
/** Said to all endpoints together in a window. */
const toldPerWindow = 1_000
/** So much that a flood does not fill it before the thread has its turn. */
const queueBytes = 16 * 1024 * 1024
const toldQueueBytes = 1024 * 1024
/** The kernel makes more of it, and still not enough for the frames of a flood. */
const noQueueBytes = 1
/** So many wait for the other side; then the sockets are left to fill. */
const maxWaiting = 1_024

class Snooper {
  readonly #syscalls: Syscalls
  readonly #polled: PollSet
  readonly #post: (reply: SnoopReply) => void
  readonly #said: PacketSocket
  readonly #told: PacketSocket
  #unheard: PacketSocket | undefined
  #hosts: readonly number[] = []
  readonly #noise = new Noise(framesPerWindow)
  #toldLeft = toldPerWindow
  #windowEndsMs = 0
  /** Of this window: names by index, and how often each thing was said. */
  readonly #names = new Map<number, string | undefined>()
  readonly #repeats = new Map<string, number>()
  #waiting: HeardFrame[] = []
  #lost = 0
  #isTaken = true

  constructor(syscalls: Syscalls, post: (reply: SnoopReply) => void) {
    this.#syscalls = syscalls
    this.#polled = syscalls.newPollSet()
    this.#post = post
    this.#said = openPacketSocket(syscalls, this.#program('from-endpoints'), queueBytes)
    this.#told = openPacketSocket(syscalls, this.#program('to-endpoints'), toldQueueBytes)
  }

  /** Waits for frames or a wake, and takes in what there is. False when it was told to stop. */
  step(wakeFd: number, orders: () => readonly SnoopOrder[]): boolean {
    const [isWoken, hasSaid, hasTold] = this.#wait(wakeFd)
    if (isWoken) {
      readSync(wakeFd, new Uint8Array(8))
      for (const order of orders()) if (!this.#obey(order)) return false
    }
    this.#turn()
    // In this order: an objection comes after the probe.
    if (hasSaid) this.#hearSaid()
    if (hasTold) this.#hearTold()
    this.#handOver()
    return true
  }

  /** Until there is something: a wake, what was said, what was told. */
  #wait(wakeFd: number): readonly boolean[] {
    const isFull = this.#waiting.length >= maxWaiting
    const fds = [wakeFd, ...(isFull ? [] : [this.#said.fd, ...(this.#toldLeft > 0 ? [this.#told.fd] : [])])]
    this.#polled.clear()
    for (const fd of fds) this.#polled.add(fd)
    this.#polled.wait(this.#msLeft())
    return fds.map((_, place) => this.#polled.readiness(place) !== 'idle')
  }

  close(): void {
    this.#said[Symbol.dispose]()
    this.#told[Symbol.dispose]()
    this.#unheard?.[Symbol.dispose]()
  }

  #obey(order: SnoopOrder): boolean {
    switch (order.type) {
      case 'hosts':
        this.#hosts = order.devices
        this.#told.setFilter(this.#program('to-endpoints'))
        this.#listen()
        return true
      case 'taken':
        this.#isTaken = true
        return true
      case 'stop':
        return false
      default:
        return assertNever(order)
    }
  }

  #program(direction: 'from-endpoints' | 'to-endpoints'): Uint8Array {
    const noisy = direction === 'from-endpoints' ? [...this.#noise.noisy] : []
    return filterProgram({ direction, hosts: this.#hosts, noisy })
  }

  /** Until the window's end if then there is something to do; else for ever. */
  #msLeft(): number {
    const isIdle = this.#noise.noisy.size === 0 && this.#toldLeft > 0
    return isIdle ? foreverMs : Math.max(Math.ceil(this.#windowEndsMs - performance.now()), 0)
  }

  #turn(): void {
    const nowMs = performance.now()
    if (nowMs < this.#windowEndsMs) return
    this.#windowEndsMs = nowMs + windowMs
    this.#names.clear()
    this.#repeats.clear()
    this.#toldLeft = toldPerWindow
    this.#lost += this.#said.takeCounts().lost + (this.#unheard?.takeCounts().passed ?? 0)
    const wasNoisy = this.#noise.noisy.size > 0
    this.#noise.turn()
    if (wasNoisy) this.#listen()
  }

  /**
   * Keeps the noisy devices off the socket, and counts what they say on another. That stays open from the first time on:
   * closing a packet socket waits until no processor looks at it any more.
   */
  #listen(): void {
    const noisy = [...this.#noise.noisy]
    this.#said.setFilter(this.#program('from-endpoints'))
    if (noisy.length === 0 && this.#unheard === undefined) return
    const only = filterProgram({ direction: 'from-endpoints', hosts: this.#hosts, noisy, only: true })
    if (this.#unheard === undefined) this.#unheard = openPacketSocket(this.#syscalls, only, noQueueBytes)
    else this.#unheard.setFilter(only)
  }

  #hearTold(): void {
    const packets = this.#told.receive()
    this.#toldLeft -= packets.length
    for (const packet of packets) this.#hear(packet)
  }

  #hearSaid(): void {
    const before = this.#noise.noisy.size
    for (const packet of this.#said.receive()) {
      if (this.#noise.hear(packet.device)) this.#hear(packet)
      else this.#lost++
    }
    const { size } = this.#noise.noisy
    if (size > before && size <= maxDevices) this.#listen()
  }

  #hear({ device, outgoing, strippedTci, bytes }: Packet): void {
    const decoded = decodeFrame(bytes, strippedTci)
    const name = decoded && this.#nameOf(device)
    if (decoded === undefined || name === undefined) return
    const frame = { device: name, outgoing, ...decoded }
    const id = JSON.stringify(frame)
    const repeats = this.#repeats.get(id) ?? 0
    if (repeats >= maxRepeats) return
    this.#repeats.set(id, repeats + 1)
    this.#waiting.push(frame)
  }

  #nameOf(device: number): string | undefined {
    if (!this.#names.has(device)) this.#names.set(device, deviceName(this.#syscalls, this.#said.fd, device))
    return this.#names.get(device)
  }

  #handOver(): void {
    if (!this.#isTaken || (this.#waiting.length === 0 && this.#lost === 0)) return
    this.#isTaken = false
    this.#post({ type: 'heard', heard: { frames: this.#waiting, lost: this.#lost } })
    this.#waiting = []
    this.#lost = 0
  }
}

function start(port: MessagePort): void {
  const post = (reply: SnoopReply) => port.postMessage(reply)
  const syscalls = loadSyscalls()
  const wakeFd = syscalls.eventfd(0, EFD_CLOEXEC)
  const opened = open(syscalls, post)
  if (typeof opened === 'string' || wakeFd < 0) {
    post({ type: 'unusable', reason: typeof opened === 'string' ? opened : 'there is no eventfd' })
    return
  }
  // The descriptor is now the other side's, which writes to it and closes it when this thread has ended.
  post({ type: 'listening', wakeFd })
  try {
    while (opened.step(wakeFd, () => received(port)));
  } finally {
    opened.close()
  }
}

function open(syscalls: Syscalls, post: (reply: SnoopReply) => void): Snooper | string {
  try {
    return new Snooper(syscalls, post)
  } catch (error) {
    return messageOf(error)
  }
}

/** What the other side has said; nobody else takes it, since this thread never returns to its event loop. */
function received(port: MessagePort): SnoopOrder[] {
  const orders: SnoopOrder[] = []
  for (;;) {
    const next: { readonly message: SnoopOrder } | undefined = receiveMessageOnPort(port)
    if (next === undefined) return orders
    orders.push(next.message)
  }
}

if (parentPort === null) throw new Error('this file is for a worker thread')
start(parentPort)
