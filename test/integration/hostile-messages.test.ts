import assert from 'node:assert/strict'
import { readdirSync, readlinkSync } from 'node:fs'
import { Client, credentials } from '@grpc/grpc-js'
import type { Dump } from '../support/dump.js'
import { hostileMessage, send, targets } from '../support/hostile.js'
import { laneTest } from '../support/lane.js'
import { linkNames } from '../support/namespace.js'
import { randomFrom } from '../support/random.js'
import { startService } from '../support/service.js'
import { startTestbed } from '../support/testbed.js'
import { until } from '../support/until.js'

/** `npm run test:all` makes it 100,000. */
const callCount = Number(process.env['OVS_BRIDGED_TEST_HOSTILE_CALLS'] ?? '1500')
const callers = 16
const mostOpenedOnce = 12

/** What the descriptors of this process, the daemon's among them, stand for; sockets by their kind alone. */
function openFiles(): readonly string[] {
  const targetOf = (fd: string) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).replace(/:\[\d+\]$/, '')
    } catch {
      return ''
    }
  }
  // The folder that is being read is one of them.
  return readdirSync('/proc/self/fd')
    .map(targetOf)
    .filter(target => target !== '' && !target.endsWith('/fd'))
    .sort()
}

/** What is in `now` more often than in `before`. */
function beyond(now: readonly string[], before: readonly string[]): readonly string[] {
  const left = [...before]
  return now.filter(one => {
    const at = left.indexOf(one)
    if (at >= 0) left.splice(at, 1)
    return at < 0
  })
}

/** Which capture is the next one is remembered, so that no id is given out twice. */
function withoutCaptureIds(dump: Dump): unknown {
  return JSON.parse(JSON.stringify(dump), (_key, value: unknown) =>
    Array.isArray(value)
      ? value.filter(entry => !(Array.isArray(entry) && String(entry[0]).endsWith(':next-capture-id')))
      : value,
  )
}

// What a message is answered with does not depend on the datapath.
laneTest(
  'hostile messages to every RPC are answered, none as a defect of ours, and leave nothing behind',
  { only: 'userspace', timeoutMs: 60_000 + callCount * 20 },
  async context => {
    const seed = Number(process.env['OVS_BRIDGED_TEST_SEED'] ?? Date.now() % 1_000_000)
    context.diagnostic(`OVS_BRIDGED_TEST_SEED=${seed}`)
    const random = randomFrom(seed)
    await using bed = await startTestbed(context.signal)
    const before = { database: await bed.ovs.dump(), links: linkNames() }
    const service = bed.use(await startService(bed))
    const client = new Client(service.address, credentials.createInsecure())
    const all = targets()
    await service.api.checkOvs()
    const filesBefore = openFiles()
    const codes = new Map<string, number>()
    let sent = 0
    const call = async () => {
      while (sent < callCount) {
        const target = all[sent++ % all.length]
        assert(target !== undefined)
        const message = hostileMessage(target.input, random)
        const code = await send(client, target, message)
        codes.set(code, (codes.get(code) ?? 0) + 1)
        const is = `${target.name} of ${message.subarray(0, 300).toString('base64')}`
        assert(
          !['INTERNAL', 'UNKNOWN', 'DEADLINE_EXCEEDED', 'UNAVAILABLE', 'UNIMPLEMENTED'].includes(code),
          `${code}: ${is}`,
        )
      }
    }
    await Promise.all(Array.from({ length: callers }, call))
    context.diagnostic([...codes].map(([code, count]) => `${code} ${count}`).join(', '))
    assert(
      (codes.get('OK') ?? 0) > 0 && (codes.get('INVALID_ARGUMENT') ?? 0) > 0,
      'some calls get through, some do not',
    )

    assert.equal((await service.api.ensureBridge({ bridge: 'still' })).bridge?.name, 'still')
    await service.api.destroyAllBridges()
    for (const { name } of (await service.api.listTaps({ includeDefunct: true })).taps)
      await service.api.destroyTap({ tap: name })
    await service.api.reapTaps()
    client.close()
    assert.deepEqual(linkNames(), before.links)
    // A watch of the kernel that the daemon begins when it first has to is a thread with a handful of them.
    const left = () => beyond(openFiles(), filesBefore)
    await until('no call leaves a descriptor open', () => left().length <= mostOpenedOnce).catch(() => undefined)
    assert(left().length <= mostOpenedOnce, left().join(' '))
    await service[Symbol.asyncDispose]()
    assert.deepEqual(withoutCaptureIds(await bed.ovs.dump()), withoutCaptureIds(before.database))
  },
)
