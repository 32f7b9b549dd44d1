import assert from 'node:assert/strict'
import { lane, laneTest } from '../support/lane.js'
import { type ServedTestbed, startServedTestbed, startService } from '../support/service.js'
import { startTestbed } from '../support/testbed.js'
import { until } from '../support/until.js'

async function presentOf(bed: ServedTestbed): Promise<Readonly<Record<string, boolean>>> {
  const { dependencies } = await bed.api.checkOvs()
  return Object.fromEntries(dependencies.map(({ name, present }) => [name, present]))
}

laneTest('CheckOvs sees the real datapath and its queueing disciplines', { only: 'kernel' }, async context => {
  await using bed = await startServedTestbed(context.signal)
  const present = await presentOf(bed)
  assert.deepEqual([present['openvswitch'], present['sch_netem'], present['sch_tbf']], [true, true, true])
  const check = await bed.api.checkOvs()
  assert.equal(check.datapathType, 'system')
  assert.deepEqual(check.warnings, [])
})

laneTest('the datapath is chosen by what the kernel has, where nobody says which', {}, async context => {
  await using bed = await startTestbed(context.signal)
  const { api } = bed.use(await startService(bed, '--datapath', 'auto'))
  const { datapathType, dependencies } = await api.checkOvs()
  const hasModule = dependencies.some(({ name, present }) => name === 'openvswitch' && present)
  assert.equal(datapathType, hasModule ? 'system' : 'netdev')
  assert.equal((await api.ensureBridge()).bridge?.datapathType, datapathType)
  assert(lane === 'userspace' || hasModule)
})

laneTest('CheckOvs tells versions, and of each thing that is missing how to get it', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const check = await bed.api.checkOvs()
  assert.match(check.ovsVersion, /^\d+\.\d+\.\d+$/)
  assert.match(check.dbVersion, /^\d+\.\d+\.\d+$/)
  assert.equal(check.datapathType, bed.ovs.datapathType)
  assert.deepEqual([check.ovsdbConnected, check.vswitchdAnswers], [true, true])
  for (const { name, present, remedy, required } of check.dependencies) {
    assert.equal(remedy === '', present, name)
    assert(present || !required, `${name} is required`)
  }
})

laneTest('CheckOvs writes nothing', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const root = () => bed.ovs.select('Open_vSwitch')
  const [before] = await root()
  const database = await bed.ovs.dump()
  await bed.api.checkOvs()
  const [after] = await root()
  assert.equal(after?.['next_cfg'], before?.['next_cfg'])
  assert.deepEqual(await bed.ovs.dump(), database)
})

laneTest('CheckOvs warns where TCP between containers will fail', { only: 'userspace' }, async context => {
  await using bed = await startServedTestbed(context.signal)
  assert.deepEqual((await bed.api.checkOvs()).warnings, [])
  const mutations = [['other_config', 'delete', ['set', ['userspace-tso-enable']]]]
  await bed.ovs.transact({ op: 'mutate', table: 'Open_vSwitch', where: [], mutations })
  const [warning] = await until('the service has heard of it', async () => {
    const { warnings } = await bed.api.checkOvs()
    return warnings.length > 0 && warnings
  })
  assert.match(warning ?? '', /userspace-tso-enable/)
})
