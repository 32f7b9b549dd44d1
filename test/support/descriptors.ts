import { readFileSync } from 'node:fs'

/** How many packet(7) sockets there are in the namespace of this thread; the first line is a heading. */
export function packetSockets(): number {
  return readFileSync('/proc/thread-self/net/packet', 'utf8').trimEnd().split('\n').length - 1
}
