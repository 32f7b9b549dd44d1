/** RFC 9113 §3.4. */
export const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')

/** RFC 9113 §6. */
export const frameTypes = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  window: 8,
  continuation: 9,
  /** Of no RFC: who does not know it passes it over. */
  unknown: 0x77,
} as const

/** One frame of HTTP/2, whatever sense it makes (RFC 9113 §4.1). */
export function frame(type: keyof typeof frameTypes, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head.writeUInt8(frameTypes[type], 3)
  head.writeUInt8(flags, 4)
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

const mostWindow = Buffer.from([0x7f, 0, 0, 0])

/** The beginning of a client that takes all that it is sent: its streams and their connection have 2 GiB of window. */
export const greeting = Buffer.concat([
  preface,
  frame('settings', 0, 0, Buffer.concat([Buffer.from([0, 4]), mostWindow])),
  frame('window', 0, 0, mostWindow),
])

/** The first call to a path on a connection, and the further ones, in six bytes that refer to it (RFC 7541 §6.1, §6.2.1). */
export function indexedCallBlocks(path: string): { readonly first: Buffer; readonly further: Buffer } {
  const added = { ':path': path, ':authority': 'localhost', 'content-type': 'application/grpc', te: 'trailers' }
  const literal = (text: string) => Buffer.concat([Buffer.from([text.length]), Buffer.from(text)])
  // POST and http of the static table, then those that are added.
  const first = Object.entries(added).map(([name, value]) =>
    Buffer.concat([Buffer.from([0x40]), literal(name), literal(value)]),
  )
  return {
    first: Buffer.concat([Buffer.from([0x83, 0x86]), ...first]),
    further: Buffer.from([0x83, 0x86, 0x80 + 65, 0x80 + 64, 0x80 + 63, 0x80 + 62]),
  }
}

/** The headers of a gRPC call as literals that are not indexed (RFC 7541 §6.2.2), none of 127 bytes or more. */
export function callBlock(path: string): Buffer {
  const pseudo = { ':method': 'POST', ':scheme': 'http', ':authority': 'localhost', ':path': path }
  const headers = { ...pseudo, 'content-type': 'application/grpc', te: 'trailers' }
  const literal = (text: string) => Buffer.concat([Buffer.from([text.length]), Buffer.from(text)])
  return Buffer.concat(
    Object.entries(headers).map(([name, value]) => Buffer.concat([Buffer.from([0]), literal(name), literal(value)])),
  )
}
