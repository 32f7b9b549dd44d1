import koffi from 'koffi'
import { CaptureError } from './errors.js'
import { numericFilter } from './filter-names.js'
import { numeric, type Pointer, pointing, pooled, silent, textual } from './native.js'

/** What pcap(3PCAP) offers, on the calling thread; the functions are those of their names. */
export interface Libpcap {
  create(device: string, errors: Buffer): Pointer
  setSnapLen(pcap: Pointer, bytes: number): number
  setTimeout(pcap: Pointer, ms: number): number
  setBufferSize(pcap: Pointer, bytes: number): number
  setNanoseconds(pcap: Pointer): number
  setNonBlocking(pcap: Pointer, errors: Buffer): number
  activate(pcap: Pointer): number
  linkType(pcap: Pointer): number
  socket(pcap: Pointer): number
  compile(pcap: Pointer, program: Uint8Array, filter: string): number
  setFilter(pcap: Pointer, program: Uint8Array): number
  freeCode(program: Uint8Array): void
  setInboundOnly(pcap: Pointer): number
  error(pcap: Pointer): string
  /** Fills a `struct pcap_stat`. */
  stats(pcap: Pointer, into: Uint32Array): number
  /** A writer of pcap records to a stream, beginning with the file's header. */
  openDump(pcap: Pointer, stream: Pointer): Pointer
  flushDump(dump: Pointer): number
  /** Position of the stream. */
  tellDump(dump: Pointer): number
  /** Closes the stream too. */
  closeDump(dump: Pointer): void
  /** Hands packets to pcap_dump(3PCAP), none of them to JavaScript. Their number, or below zero an error. */
  dispatchToDump(pcap: Pointer, atMost: number, dump: Pointer): number
}

/** <pcap/pcap.h>: PCAP_TSTAMP_PRECISION_NANO, PCAP_D_IN, PCAP_NETMASK_UNKNOWN. */
const nanoseconds = 1
const inbound = 1
const unknownNetmask = 0xffffffff
const optimise = 1

/** `struct bpf_program`. */
export const programBytes = 16

/** PCAP_ERRBUF_SIZE */
export const errorBytes = 256

/** Of Debian's package libpcap0.8. */
export const libpcapName = 'libpcap.so.0.8'

function load() {
  try {
    return koffi.load(libpcapName)
  } catch (cause) {
    throw new CaptureError({ kind: 'no-libpcap' }, { cause })
  }
}

/** Throws CaptureError where libpcap is not installed. */
export function loadLibpcap(): Libpcap {
  const library = load()
  const setter = (name: string) => numeric(library, `int ${name}(void *, int)`)
  const setPrecision = setter('pcap_set_tstamp_precision')
  const setNonBlocking = numeric(library, 'int pcap_setnonblock(void *, int, void *)')
  const setDirection = setter('pcap_setdirection')
  const compile = numeric(library, compilePrototype)
  const dispatch = numeric(library, 'int pcap_dispatch(void *, int, void *, void *)')
  const dumpCallback: unknown = library.symbol('pcap_dump')
  return {
    create: pointing(library, 'void *pcap_create(const char *, void *)'),
    setSnapLen: setter('pcap_set_snaplen'),
    setTimeout: setter('pcap_set_timeout'),
    setBufferSize: setter('pcap_set_buffer_size'),
    setNanoseconds: pcap => setPrecision(pcap, nanoseconds),
    setNonBlocking: (pcap, errors) => setNonBlocking(pcap, 1, errors),
    activate: numeric(library, 'int pcap_activate(void *)'),
    linkType: numeric(library, 'int pcap_datalink(void *)'),
    socket: numeric(library, 'int pcap_get_selectable_fd(void *)'),
    compile: (pcap, program, filter) => compile(pcap, program, filter, optimise, unknownNetmask),
    setFilter: numeric(library, 'int pcap_setfilter(void *, void *)'),
    freeCode: silent(library, 'void pcap_freecode(void *)'),
    setInboundOnly: pcap => setDirection(pcap, inbound),
    error: textual(library, 'const char *pcap_geterr(void *)'),
    stats: numeric(library, 'int pcap_stats(void *, void *)'),
    openDump: pointing(library, 'void *pcap_dump_fopen(void *, void *)'),
    flushDump: numeric(library, 'int pcap_dump_flush(void *)'),
    tellDump: numeric(library, 'int64_t pcap_dump_ftell64(void *)'),
    closeDump: silent(library, 'void pcap_dump_close(void *)'),
    dispatchToDump: (pcap, atMost, dump) => dispatch(pcap, atMost, dumpCallback, dump),
  }
}

const compilePrototype = 'int pcap_compile(void *, void *, const char *, int, uint32_t)'
const ethernet = 1

/**
 * Compiles a filter for Ethernet without a device; resolves to libpcap's words about what is wrong, or to ours about a name of a
 * host or a network, which is not looked up; undefined: nothing. On a thread of libuv's pool: a long filter takes a while. Throws
 * CaptureError without libpcap.
 */
export async function faultOfFilter(filter: string, snapLenBytes: number): Promise<string | undefined> {
  const library = load()
  const pcap = pointing(library, 'void *pcap_open_dead(int, int)')(ethernet, snapLenBytes)
  const program = new Uint8Array(programBytes)
  const { text, name } = numericFilter(filter)
  try {
    const result = await pooled(library, compilePrototype)(pcap, program, text, optimise, unknownNetmask)
    if (result !== 0) return textual(library, 'const char *pcap_geterr(void *)')(pcap)
    silent(library, 'void pcap_freecode(void *)')(program)
    return name && `${JSON.stringify(name)} would have to be looked up; give hosts and networks by their addresses`
  } finally {
    silent(library, 'void pcap_close(void *)')(pcap)
  }
}

/** What `pcap_lib_version(3PCAP)` says; undefined where libpcap is not installed. */
export function libpcapVersion(): string | undefined {
  try {
    return textual(koffi.load(libpcapName), 'const char *pcap_lib_version()')().replace(/^libpcap version /, '')
  } catch {
    return undefined
  }
}
