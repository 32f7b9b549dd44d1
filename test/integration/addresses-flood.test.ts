import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { arp } from '../support/address-frames.js'
import { startArpFlood } from '../support/arp-flood.js'
import { spawnDaemon } from '../support/daemon-process.js'
import { packetSockets } from '../support/descriptors.js'
import { openTap } from '../support/frame-socket.js'
import { holdAddresses } from '../support/held-addresses.js'
import { laneTest } from '../support/lane.js'
import { connectTo } from '../support/rpc.js'
import { startServedTestbed } from '../support/service.js'
import { startTestbed } from '../support/testbed.js'
import { repeating, until } from '../support/until.js'

const framesPerSecond = 100_000

/** Resident memory of a process, proc_pid_status(5). */
function residentMib(pid: number): number {
  return Number(/^VmRSS:\s*(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1_024
}

laneTest(
  'a tap that floods the bridge with ARP hides no address of another, holds up no call and grows no memory',
  { only: 'userspace' },
  async context => {
    await using bed = await startTestbed(context.signal)
    const daemon = bed.use(await spawnDaemon(bed.ovs, { flags: ['--default-bridge', 'br0'] }))
    const { api } = bed.use(connectTo(daemon.address))
    await api.ensureBridge()
    await api.createTap({ tap: 'noisy' })
    for (const index of [1, 2, 3, 4]) await api.createTap({ tap: `quiet${index}` })
    const held = bed.use(await holdAddresses(api, { taps: ['quiet1', 'quiet2', 'quiet3', 'quiet4'] }))
    const callMs = async () => {
      const calledAt = performance.now()
      await api.getTap({ tap: 'noisy' })
      return performance.now() - calledAt
    }
    const withoutMs: number[] = []
    while (withoutMs.length < 32) withoutMs.push(await callMs())
    const flood = bed.use(startArpFlood('noisy', framesPerSecond))
    await until('the flood is under way', () => flood.sent > framesPerSecond / 4)
    const before = residentMib(daemon.pid)
    const [delaysMs, callsMs]: [number[], number[]] = [[], []]
    for (const index of [1, 2, 3, 4]) {
      const machine = bed.use(openTap(`quiet${index}`))
      for (let host = 1; host <= 8; host++) {
        const sentAt = performance.now()
        const frame = arp({ source: `02:00:00:00:00:0${index}`, ip: `10.0.${index}.${host}` })
        machine.send(frame)
        // An endpoint that has no answer asks again.
        const again = setInterval(() => machine.send(frame), 1_000)
        await held.learned(`quiet${index} 0 10.0.${index}.${host}`, 'ARP').finally(() => clearInterval(again))
        delaysMs.push(performance.now() - sentAt)
        callsMs.push(await callMs())
      }
    }
    // What else the machine does may delay some of them.
    const share = (all: readonly number[], of: number) =>
      [...all].sort((a, b) => a - b)[Math.floor(all.length * of)] ?? Number.NaN
    const median = (all: readonly number[]) => share(all, 0.5)
    const luckiest = (all: readonly number[]) => share(all, 0.25)
    assert.ok(median(delaysMs) < 1_000, `an address is learned after ${median(delaysMs)} ms`)
    // A machine that has other work is slower than that without any flood.
    const mostMs = Math.max(50, 3 * median(withoutMs))
    assert.ok(luckiest(callsMs) < mostMs, `a call takes ${luckiest(callsMs)} ms, and ${median(withoutMs)} ms without`)
    await until('it has gone on for a while', () => flood.sent > 2 * framesPerSecond, { deadlineMs: 30_000 })
    const { tap } = await api.getTap({ tap: 'noisy' })
    assert.equal(tap?.addresses.length, 16)
    const grown = residentMib(daemon.pid) - before
    assert.ok(grown < 64, `${grown} MiB more after ${flood.sent} frames`)
    context.diagnostic(
      `${flood.sent} frames; learned after ${median(delaysMs).toFixed(1)} ms (at most ${Math.max(...delaysMs).toFixed(1)}), ` +
        `calls ${median(callsMs).toFixed(1)} ms (at most ${Math.max(...callsMs).toFixed(1)}), ${grown.toFixed(1)} MiB`,
    )
  },
)

laneTest(
  'a tap that says too much is only counted for a moment, by a socket of its own, and heard again afterwards',
  { looksInside: true, only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { api, service } = bed
    for (const tap of ['noisy', 'quiet']) await api.createTap({ tap })
    const held = bed.use(await holdAddresses(api))
    const quiet = bed.use(openTap('quiet'))
    const { addresses } = service.daemon.host
    const heard = () => addresses.readings.learned + addresses.readings.overLimit
    const before = packetSockets()
    const flood = startArpFlood('noisy', 20_000)
    try {
      await until('the tap is muted', () => packetSockets() === before + 1)
      const said = arp({ source: '02:00:00:00:00:02', ip: '10.1.0.1' })
      await repeating(() => quiet.send(said), held.learned('quiet 0 10.1.0.1', 'ARP'))
      await until('far more was counted than heard', () => addresses.readings.framesLost > 20_000)
    } finally {
      await flood[Symbol.asyncDispose]()
    }
    const { framesLost } = addresses.readings
    assert.ok(
      heard() > 0 && heard() < flood.sent / 2,
      `${heard()} of ${flood.sent} frames were heard, ${framesLost} lost`,
    )
    context.diagnostic(`${heard()} of ${flood.sent} frames were heard, ${framesLost} were counted only`)

    const noisy = bed.use(openTap('noisy'))
    const ip = (await api.getTap({ tap: 'noisy' })).tap?.ip4 ?? ''
    const source = '02:00:00:00:00:01'
    await until('the tap is heard again', async () => {
      noisy.send(arp({ source, ip }))
      const { tap } = await api.getTap({ tap: 'noisy' })
      return tap?.addresses.find(address => address.ip === ip)?.mac === source
    })
  },
)
