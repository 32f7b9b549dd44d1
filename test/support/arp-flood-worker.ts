/** The thread of {@link startArpFlood}. */
import { workerData } from 'node:worker_threads'
import { arp } from './address-frames.js'
import { type FloodOrder, sentAt, stopAt } from './arp-flood.js'
import { openTap } from './frame-socket.js'

const { tap, framesPerSecond, shared } = workerData as FloodOrder
const socket = openTap(tap)
const frame = arp({ source: '02:00:00:00:ff:01', ip: '10.128.0.0' })
/** Low bytes of the sender's address. */
const addressAt = 14 + 14 + 1
const pause = new Int32Array(new SharedArrayBuffer(4))
const beganAt = performance.now()
for (let sent = 0; Atomics.load(shared, stopAt) === 0; ) {
  const due = ((performance.now() - beganAt) / 1_000) * framesPerSecond
  for (; sent < due && Atomics.load(shared, stopAt) === 0; sent++) {
    frame.writeUIntBE(0x800000 + (sent % 0x7fffff), addressAt, 3)
    socket.send(frame)
  }
  Atomics.store(shared, sentAt, sent)
  Atomics.wait(pause, 0, 0, 1)
}
socket[Symbol.dispose]()
