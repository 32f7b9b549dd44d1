import { portsPerEpoch } from '../../src/bridge/reap.js'
import { until } from '../../test/support/until.js'
import { type Bench, byCallers, inTurn, type Settings, tapNames, timed } from '../bench.js'
import {
  addAtOnce,
  deleteDevicesAtOnce,
  deleteGroup,
  deleteOneByOne,
  deletePortsAtOnce,
  groupDevices,
  wholeLoopMs,
} from '../by-hand.js'
import { bulkTimeoutMs, expectTaps, fill, type Served, withoutService, withService } from '../world.js'

const callers = 64

/** Milliseconds from the start. */
interface Gone {
  readonly devicesMs: number
  readonly portsMs: number
}

export const destroy: Bench = {
  name: 'destroy',
  about: `DestroyTap by ${callers} callers at once, then ReapTaps`,
  async run(settings) {
    const count = settings.smoke ? 20 : 1_000
    const taps = tapNames(count)
    const { service, loop, batch, groups, least } = await inTurn(settings.rounds, {
      service: () => withService(settings, served => destroyByService(served, taps)),
      loop: () => sampleLoop(settings, taps),
      batch: () => deleteAtOnce(settings, taps),
      groups: () => deletePortsInGroups(settings, taps),
      least: () => deleteDevicesFirst(settings, taps),
    })
    const what = `destroy: ${count} DestroyTap, ${callers} callers`
    const ours = { devices: service.map(gone => gone.devicesMs), ports: service.map(gone => gone.portsMs) }
    return [
      {
        name: `${what}, devices gone / loop of ip and ovs-vsctl`,
        unit: 'ms',
        ours: ours.devices,
        theirs: loop,
        aim: { kind: 'times-faster', atLeast: 10 },
      },
      {
        name: `${what}, devices and ports gone / ip -batch and one ovs-vsctl`,
        unit: 'ms',
        ours: ours.ports,
        theirs: batch.map(gone => gone.devicesMs),
      },
      {
        name: `${what}, devices and ports gone / one ovs-vsctl, devices left`,
        unit: 'ms',
        ours: ours.ports,
        theirs: batch.map(gone => gone.portsMs),
        aim: { kind: 'times-as-long', atMost: 1 },
      },
      {
        name: `${what}, devices and ports gone / an ovs-vsctl for every ${portsPerEpoch} ports, devices left`,
        unit: 'ms',
        ours: ours.ports,
        theirs: groups,
      },
      {
        name: `${what}, devices and ports gone / one ip link del group, then one ovs-vsctl`,
        unit: 'ms',
        ours: ours.ports,
        theirs: least,
      },
      {
        name: `destroy: ${count} devices and ports by one ip link del group, then one ovs-vsctl / that ovs-vsctl alone, devices left`,
        unit: 'ms',
        ours: least,
        theirs: batch.map(gone => gone.portsMs),
      },
    ]
  },
}

async function destroyByService(served: Served, taps: readonly string[]): Promise<Gone> {
  const { api, ovs } = served
  await fill(served, taps)
  await expectTaps(served, taps.length)
  const startedAt = performance.now()
  await byCallers(callers, taps, tap => api.destroyTap({ tap }, { timeoutMs: bulkTimeoutMs }))
  const devicesMs = performance.now() - startedAt
  await api.reapTaps({}, { timeoutMs: bulkTimeoutMs })
  // The service's own reaper may have begun with some of them.
  await until(
    'no port is left',
    async () => {
      const [found] = await ovs.transact({ op: 'select', table: 'Port', where: [['tag', '==', 10]], columns: [] })
      return (found as { rows: readonly unknown[] }).rows.length === 0
    },
    { deadlineMs: bulkTimeoutMs },
  )
  const portsMs = performance.now() - startedAt
  await expectTaps(served, 0)
  return { devicesMs, portsMs }
}

/** Ports first: the devices' going then costs ovs-vswitchd nothing. */
function deleteAtOnce(settings: Settings, taps: readonly string[]): Promise<Gone> {
  return withoutService(settings, async world => {
    await addAtOnce(world, taps)
    const portsMs = await timed(() => deletePortsAtOnce(world, taps))
    const devicesMs = portsMs + (await timed(() => deleteDevicesAtOnce(world, taps)))
    await expectTaps(world, 0)
    return { devicesMs, portsMs }
  })
}

/** Devices first, as the service has it, in the quickest ways that there are, and nobody who creates a tap meanwhile: ms. */
function deleteDevicesFirst(settings: Settings, taps: readonly string[]): Promise<number> {
  return withoutService(settings, async world => {
    await addAtOnce(world, taps)
    await groupDevices(world, taps)
    await world.ovs.configure()
    const ms = await timed(async () => {
      await deleteGroup(world)
      await deletePortsAtOnce(world, taps)
    })
    await expectTaps(world, 0)
    return ms
  })
}

/** The time of the ports alone, as many in an epoch as the service has go, so that who creates a tap waits no longer: ms. */
function deletePortsInGroups(settings: Settings, taps: readonly string[]): Promise<number> {
  return withoutService(settings, async world => {
    await addAtOnce(world, taps)
    const ms = await timed(async () => {
      for (let i = 0; i < taps.length; i += portsPerEpoch) {
        await deletePortsAtOnce(world, taps.slice(i, i + portsPerEpoch))
      }
    })
    await deleteDevicesAtOnce(world, taps)
    await expectTaps(world, 0)
    return ms
  })
}

/** The loop's time for all taps, of which only those with the most and with the fewest others are removed by it. */
function sampleLoop(settings: Settings, taps: readonly string[]): Promise<number> {
  const sampled = settings.smoke ? 3 : 50
  const [first, last] = [taps.slice(0, sampled), taps.slice(-sampled)]
  const crowded = withoutService(settings, async world => {
    await addAtOnce(world, taps)
    return await timed(() => deleteOneByOne(world, first))
  })
  return crowded.then(crowdedMs =>
    withoutService(settings, async world => {
      await addAtOnce(world, last)
      const aloneMs = await timed(() => deleteOneByOne(world, last))
      await expectTaps(world, 0)
      return wholeLoopMs(taps.length, sampled, [crowdedMs, aloneMs])
    }),
  )
}
