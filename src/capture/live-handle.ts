import type { Syscalls } from '../lib/syscall.js'
import { assemble, give } from './bpf.js'
import { CaptureError } from './errors.js'
import type { Libc } from './libc.js'
import { errorBytes, type Libpcap, programBytes } from './libpcap.js'
import { type Board, writeBoard } from './messages.js'
import { type Pointer, textIn } from './native.js'
import { attachFilter } from './packet-socket.js'
import type { Source } from './source.js'

export interface Natives {
  readonly libc: Libc
  readonly libpcap: Libpcap
  readonly syscalls: Syscalls
}

/** How long a packet may wait in the kernel for company (pcap_set_timeout(3PCAP)). */
export const companyMs = 50

/** Of the kernel's ring, per capture. */
const ringBytes = 4 * 2 ** 20

const DLT_EN10MB = 1

const takesNothing = assemble([give(0)])

/**
 * A device as it is being captured. Its `pcap` stands on the board from the moment that it exists, and is closed by the main
 * thread, also when it could not be opened: see {@link releaseAll}.
 */
export class LiveHandle {
  readonly #natives: Natives
  readonly pcap: Pointer
  readonly socket: number
  /** `struct pcap_stat` is { u_int ps_recv, ps_drop, ps_ifdrop }; on Linux ps_recv counts the dropped ones too. */
  readonly #stats = new Uint32Array(3)
  /** Packets that went through {@link dispatch}. */
  #dispatched = 0
  /** Sum of what {@link dropped} has seen, beyond the 32 bits of libpcap's own. */
  #dropped = 0
  #lastDrops = 0
  /** The device is down or gone; only trying tells which. */
  down = false

  /** Throws CaptureError: `device-refused`, `bad-filter`. */
  constructor(natives: Natives, source: Source, board: Board) {
    this.#natives = natives
    this.pcap = activated(natives, source, board)
    listenTo(natives.libpcap, this.pcap, source)
    this.socket = natives.libpcap.socket(this.pcap)
  }

  /** Hands packets to a dump; answers with their number, or why there will be no more. */
  dispatch(atMost: number, dump: Pointer): number | { readonly lost: string } {
    const { libpcap } = this.#natives
    const count = libpcap.dispatchToDump(this.pcap, atMost, dump)
    if (count < 0) return { lost: libpcap.error(this.pcap) }
    this.#dispatched += count
    return count
  }

  /** Lets no more packets in. What waits in the kernel can still be dispatched. */
  shut(): void {
    attachFilter(this.#natives.syscalls, this.socket, takesNothing)
  }

  /** Whether the kernel holds nothing for us; false also when that cannot be told. */
  get empty(): boolean {
    this.#readStats()
    const [received = 0, drops = 0] = this.#stats
    return (received - drops - this.#dispatched) >>> 0 === 0
  }

  /** Packets for which the kernel had no room, so far. */
  get dropped(): number {
    this.#readStats()
    const drops = this.#stats[1] ?? 0
    this.#dropped += (drops - this.#lastDrops) >>> 0
    this.#lastDrops = drops
    return this.#dropped
  }

  #readStats(): void {
    this.#natives.libpcap.stats(this.pcap, this.#stats)
  }
}

/**
 * Not promiscuous: a tap's device gives all that passes it anyway, and the flag would be a link event, for which
 * ovs-vswitchd walks over all its ports.
 */
function activated({ libpcap }: Natives, { device, snapLenBytes }: Source, board: Board): Pointer {
  const errors = Buffer.alloc(errorBytes)
  const pcap = libpcap.create(device, errors)
  if (pcap === 0n) throw new CaptureError({ kind: 'device-refused', device, detail: textIn(errors) })
  writeBoard(board, 'pcap', pcap)
  libpcap.setSnapLen(pcap, snapLenBytes)
  libpcap.setTimeout(pcap, companyMs)
  libpcap.setBufferSize(pcap, ringBytes)
  libpcap.setNanoseconds(pcap)
  // Above zero is a warning.
  if (libpcap.activate(pcap) < 0) throw refused(libpcap, pcap, device)
  if (libpcap.setNonBlocking(pcap, errors) < 0) throw refused(libpcap, pcap, device)
  if (libpcap.linkType(pcap) === DLT_EN10MB) return pcap
  throw new CaptureError({ kind: 'device-refused', device, detail: 'it is no Ethernet device' })
}

function refused(libpcap: Libpcap, pcap: Pointer, device: string): CaptureError {
  const detail = libpcap.error(pcap) || 'it is down or gone'
  return new CaptureError({ kind: 'device-refused', device, detail })
}

/** On the live handle, since only there `vlan` takes account of tags that the kernel has taken out of the frame. */
function listenTo(libpcap: Libpcap, pcap: Pointer, { device, filter, inboundOnly }: Source): void {
  const words = () => libpcap.error(pcap)
  if (inboundOnly && libpcap.setInboundOnly(pcap) < 0)
    throw new CaptureError({ kind: 'device-refused', device, detail: words() })
  const program = new Uint8Array(programBytes)
  if (libpcap.compile(pcap, program, filter) < 0) throw new CaptureError({ kind: 'bad-filter', detail: words() })
  const set = libpcap.setFilter(pcap, program)
  libpcap.freeCode(program)
  if (set < 0) throw new CaptureError({ kind: 'device-refused', device, detail: words() })
}
