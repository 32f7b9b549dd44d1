/** The thread of {@link floodFlows}. */
import { parentPort, workerData } from 'node:worker_threads'
import { type FlowFlooded, type FlowFloodOrder, flowsPerDatagram } from './flow-flood.js'
import { makeDatagram } from './netflow.js'
import { loadTestSyscalls } from './syscalls.js'

const { engine, port, flowsPerSecond, seconds } = workerData as FlowFloodOrder
const AF_INET = 2
const SOCK_DGRAM = 2
const O_CLOEXEC = 0o2000000
const syscalls = loadTestSyscalls()
const socket = syscalls.socket(AF_INET, SOCK_DGRAM | O_CLOEXEC, 0)
/** struct sockaddr_in, ip(7). */
const address = Buffer.from([AF_INET, 0, port >> 8, port & 0xff, 127, 0, 0, 1, ...Buffer.alloc(8)])
const datagram = makeDatagram({ engine, firstFlow: 0, count: flowsPerDatagram })
/** Of the number of its last flow. */
const numberAt = 16
const pause = new Int32Array(new SharedArrayBuffer(4))
const beganAt = performance.now()
let flooded: FlowFlooded = { sentFlows: 0, elapsedMs: 0 }
const isDone = () => flooded.elapsedMs >= seconds * 1_000 && flooded.sentFlows >= due()
const due = () => (flooded.elapsedMs / 1_000) * flowsPerSecond
while (!isDone() && flooded.elapsedMs < seconds * 10_000) {
  let { sentFlows } = flooded
  // A little ahead, so that the end finds it on time.
  for (const ahead = due() + flowsPerSecond / 50; sentFlows < ahead; sentFlows += flowsPerDatagram) {
    datagram.writeUInt32BE(sentFlows + flowsPerDatagram - 1, numberAt)
    syscalls.sendto(socket, datagram, address)
  }
  Atomics.wait(pause, 0, 0, 5)
  flooded = { sentFlows, elapsedMs: performance.now() - beganAt }
}
syscalls.close(socket)
parentPort?.postMessage(flooded)
