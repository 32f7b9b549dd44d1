import koffi from 'koffi'
import { libpcapName } from './libpcap.js'
import { type Board, readBoard } from './messages.js'
import { pooled } from './native.js'

/**
 * Gives back what libpcap and the C library still hold for captures: always the devices' handles, and if their thread has
 * died also their files, to which is written what stands in the buffer. On libuv's pool: closing a device takes 20 ms, in
 * which the other captures of the thread would wait.
 */
export async function releaseAll(boards: readonly Board[]): Promise<void> {
  if (boards.every(board => readBoard(board, 'pcap') === 0n)) return
  const libpcap = koffi.load(libpcapName)
  const steps = [
    { place: 'dump', release: pooled(libpcap, 'void pcap_dump_close(void *)') },
    { place: 'buffer', release: pooled(koffi.load('libc.so.6'), 'void free(void *)') },
    { place: 'pcap', release: pooled(libpcap, 'void pcap_close(void *)') },
  ] as const
  for (const board of boards) {
    for (const { place, release } of steps) {
      const address = readBoard(board, place)
      if (address !== 0n) await release(address)
    }
  }
}
