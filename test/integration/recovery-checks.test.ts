import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { bareBridge } from '../support/crash-bridges.js'
import { settledOn } from '../support/crash-check.js'
import { foreignState, lendAgain, settleForeigners } from '../support/crash-foreign.js'
import { bridgeNameOf, type Caller, devicesOf, lendingBridge, nothing, type Owned } from '../support/crash-owned.js'
import { insertPort, removePort } from '../support/foreign-port.js'
import { laneTest } from '../support/lane.js'
import { changeLink, createVethPair, deleteLink, findLink } from '../support/links.js'
import type { PrivateOvs } from '../support/ovs.js'
import { setInRecord } from '../support/qos.js'
import { choicesFrom } from '../support/random.js'
import { startService } from '../support/service.js'
import { startTestbed, type Testbed } from '../support/testbed.js'

/** What the rounds of crashes look at would say nothing if it saw nothing: here something is amiss, and it is told. */

const [own, only] = [bridgeNameOf({ number: 0 }), { only: 'userspace' } as const]

/** Does harm that a daemon does not mend by itself at once, and returns what undoes it. */
type Harm = (bed: Testbed) => Promise<() => unknown>

function withDevice(name: string, alias: string): Harm {
  return async () => {
    execFileSync('ip', ['tuntap', 'add', 'dev', name, 'mode', 'tap'])
    if (alias !== '') execFileSync('ip', ['link', 'set', name, 'alias', alias])
    return () => deleteLink(findLink(name)?.index ?? 0)
  }
}

function withQdisc(...words: readonly string[]): Harm {
  const [tc, where = ''] = [
    (verb: string, ...more: readonly string[]) => execFileSync('tc', ['qdisc', verb, 'dev', ...more]),
    words[1],
  ]
  return async () => {
    tc('add', ...words)
    return () => tc('del', words[0] ?? '', where)
  }
}

function update(table: string, name: string, column: string, value: unknown): Harm {
  return async ({ ovs }) => {
    const where = name === '' ? [] : [['name', '==', name]]
    const set = (to: unknown) => ovs.configure({ op: 'update', table, where, row: { [column]: to } })
    const [row] = await ovs.select(table, where)
    await set(value)
    return () => set(row?.[column])
  }
}

/** A row, with a column of a bridge that refers to it. */
async function insertReferred(ovs: PrivateOvs, table: string, row: object, bridge: string, column: string) {
  const where = [['name', '==', bridge]]
  const insert = { op: 'insert', table, 'uuid-name': 'row', row }
  await ovs.configure(insert, { op: 'update', table: 'Bridge', where, row: { [column]: ['named-uuid', 'row'] } })
  return () => ovs.configure({ op: 'update', table: 'Bridge', where, row: { [column]: ['set', []] } })
}

const marks = (role: string) => ['map', Object.entries({ 'ovs-bridged:instance': 'default', 'ovs-bridged:role': role })]

const left: Readonly<Record<string, Harm>> = {
  'the device of a tap': withDevice('elsewhere', 'ovs-bridged:default'),
  'a device that had no mark yet': withDevice('q0', ''),
  'the device of a bridge': withDevice('elsewhere', 'ovs-bridged-bridge:default'),
  'the device of a capture': withDevice('cap-1', ''),
  'a qdisc': withQdisc('k0', 'root', 'handle', 'b51:', 'tbf', 'rate', '1mbit', 'burst', '10k', 'latency', '20ms'),
  'a policer': withQdisc('k0', 'ingress'),
  'a port': async ({ ovs }) => {
    await ovs.configure(...insertPort(own, 'k0', { external_ids: marks('tap') }))
    const [port] = await ovs.select('Port', [['name', '==', 'k0']])
    return () => ovs.configure(removePort(port))
  },
  'the mirror of a capture': ({ ovs }) =>
    insertReferred(ovs, 'Mirror', { name: 'capture-cap-1', external_ids: marks('capture') }, lendingBridge, 'mirrors'),
  'a NetFlow': ({ ovs }) =>
    insertReferred(ovs, 'NetFlow', { targets: '127.0.0.1:9', external_ids: marks('') }, lendingBridge, 'netflow'),
  'a record': async ({ ovs }) => {
    const row = { type: 'linux-noop', external_ids: marks('bond') }
    await ovs.configure({ op: 'insert', table: 'QoS', row })
    return () => ovs.configure({ op: 'delete', table: 'QoS', where: [['external_ids', '==', marks('bond')]] })
  },
}

const amiss: Readonly<Record<string, Harm>> = {
  'another VLAN': update('Port', 'p0', 'tag', 9),
  'another VLAN in its record': async bed => {
    await setInRecord(bed, 'p0', 'vlan', '9')
    return () => setInRecord(bed, 'p0', 'vlan', '1')
  },
  'a device that is down': async () => {
    changeLink({ name: 'p0', up: false })
    return () => changeLink({ name: 'p0', up: true })
  },
  'another setting of the bridge': update('Bridge', own, 'other_config', ['map', [['crash', '1']]]),
}

const ofOthers: Readonly<Record<string, Harm>> = {
  'the tag of a port': update('Port', 'foreign0', 'tag', 8),
  'a key of a port': update('Port', 'foreign1', 'external_ids', ['map', [['plain', 'x']]]),
  'a key of a bridge': update('Bridge', lendingBridge, 'external_ids', ['map', [['plain', 'x']]]),
  'a column of a bridge': update('Bridge', lendingBridge, 'fail_mode', 'secure'),
  'a queue': update('Queue', '', 'dscp', 1),
  'the MTU of a device': async () => {
    changeLink({ name: 'foreign2', mtuBytes: 1400 })
    return () => changeLink({ name: 'foreign2', mtuBytes: 1500 })
  },
}

async function settle(bed: Testbed) {
  const container = bed.createContainer()
  await settleForeigners(bed, container)
  const { adopted, trunk } = devicesOf({ number: 0 })
  for (const name of [adopted, trunk]) createVethPair({ name }, { name }, container)
  await lendAgain(bed, container, [{ number: 0, owned: nothing }])
  const { api } = bed.use(await startService(bed))
  await api.ensureBridge({ bridge: own })
  await api.createTap({ tap: 'p0', bridge: own, vlan: 1 })
  const caller: Caller = { number: 0, choices: choicesFrom(0), netns: container.path, streams: new Set() }
  const p0 = { kind: 'tuntap', bridge: own, vlan: 1, qinq: undefined, qos: {}, policed: '' } as const
  const owned: Owned = { ...nothing, bridge: bareBridge, taps: { p0 } }
  return { look: () => settledOn([{ caller, possible: [owned], pending: '' }], api, bed.ovs) }
}

laneTest('whatever a crash might leave or lose is seen by those who look for it', only, async context => {
  await using bed = await startTestbed(context.signal)
  const { look } = await settle(bed)
  await look()
  for (const [what, harm] of Object.entries({ ...left, ...amiss })) {
    const undo = await harm(bed)
    await assert.rejects(look(), assert.AssertionError, what)
    await undo()
  }
  await look()
})

laneTest('whatever is changed of others is seen by those who look for it', only, async context => {
  await using bed = await startTestbed(context.signal)
  await settle(bed)
  const before = await foreignState(bed)
  for (const [what, harm] of Object.entries(ofOthers)) {
    const undo = await harm(bed)
    assert.notDeepEqual(await foreignState(bed), before, what)
    await undo()
  }
  assert.deepEqual(await foreignState(bed), before)
})
