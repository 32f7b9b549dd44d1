import { isIPv6 } from 'node:net'
import { type Parsed, parsed, refused } from '../lib/parsed.js'
import { type PathBelow, parsePathBelow } from '../lib/safe-file.js'

/** Where a writer writes. Its name is its text form: `file:flows.txt`, `tcp:HOST:PORT`, `udp:[ADDRESS]:PORT`. */
export type WriterTarget =
  | { readonly kind: 'file'; readonly path: PathBelow }
  | {
      readonly kind: 'tcp' | 'udp'
      /** An IP address without brackets, or a name. */
      readonly host: string
      readonly port: number
    }

/** `raw`: the datagrams as they came. `ascii`: a line for each flow, see {@link formatFlow}. */
export type WriterFormat = 'raw' | 'ascii'

export interface WriterSpec {
  readonly target: WriterTarget
  readonly format: WriterFormat
  /** Each write is a gzip member of its own (RFC 1952 §2.2), so that a cut leaves all before it readable. */
  readonly gzip: boolean
}

export function parseWriterTarget(text: string): Parsed<WriterTarget> {
  const [, kind, rest = ''] = /^([a-z]+):(.*)$/s.exec(text) ?? []
  switch (kind) {
    case 'file': {
      const path = parsePathBelow(rest)
      return path.ok ? parsed({ kind, path: path.value }) : refused(`names a file that ${path.reason}`)
    }
    case 'tcp':
    case 'udp': {
      const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(rest) ?? []
      const port = Number(digits)
      if (digits === undefined || port < 1 || port > 65535) return refused(`is not ${kind}:HOST:PORT`)
      const host = bracketed ?? plain ?? ''
      if (bracketed === undefined ? !isHostName(host) : !isIPv6(host)) return refused('has a host that is none')
      return parsed({ kind, host, port })
    }
    default:
      return refused('is neither file:NAME nor tcp:HOST:PORT nor udp:HOST:PORT')
  }
}

/** RFC 1123 §2.1; takes in IPv4 addresses. */
function isHostName(text: string): boolean {
  return text.length <= 253 && text.split('.').every(label => /^[a-z\d]([a-z\d-]{0,61}[a-z\d])?$/i.test(label))
}

/** The name of a writer, which {@link parseWriterTarget} takes. */
export function writerName(target: WriterTarget): string {
  if (target.kind === 'file') return `file:${target.path}`
  const host = isIPv6(target.host) ? `[${target.host}]` : target.host
  return `${target.kind}:${host}:${target.port}`
}
