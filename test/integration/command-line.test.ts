import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { arp } from '../support/address-frames.js'
import { testFrame } from '../support/captured.js'
import { command, type Ended, mainProgram, quoted } from '../support/command.js'
import { openTap } from '../support/frame-socket.js'
import { laneTest } from '../support/lane.js'
import { type ServedTestbed, startServedTestbed } from '../support/service.js'
import { openTerminal } from '../support/terminal.js'
import { until, within } from '../support/until.js'

/** What the command line prints does not depend on the datapath. */
const options = { only: 'userspace', timeoutMs: 85_000 } as const

function ovsBridged(bed: ServedTestbed, signal: AbortSignal, ...args: readonly string[]): Promise<Ended> {
  return command(signal, process.execPath, mainProgram, ...args, '--server', bed.service.address)
}

laneTest('check ends with 0 when all is there, and with 1 when the switch does not answer', options, async context => {
  await using bed = await startServedTestbed(context.signal)
  const good = await ovsBridged(bed, context.signal, 'check')
  assert.deepEqual([good.status, good.stderr], [0, ''])
  assert.match(
    good.stdout,
    /^Open vSwitch \d+\.\d+\.\d+, schema \d+\.\d+\.\d+, datapath netdev\n\nTHING +VERSION +STATE\n/,
  )
  assert.match(good.stdout, /^libpcap +\d.* {2}there$/m)
  assert(!good.stdout.includes('\x1b'))
  const json = JSON.parse((await ovsBridged(bed, context.signal, 'check', '--json')).stdout) as Record<string, unknown>
  assert.deepEqual([json['ovsdbConnected'], json['vswitchdAnswers'], json['datapathType']], [true, true, 'netdev'])

  await bed.ovs.vswitchd.kill()
  const bad = await ovsBridged(bed, context.signal, 'check')
  assert.deepEqual([bad.status, bad.stderr], [1, ''])
  assert.match(bad.stdout, /^ovs-vswitchd does not answer$/m)
})

laneTest('ls shows bridges and taps as a table, or as JSON', options, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.createTap({ tap: 'vm1', vlan: 10, mac: '02:00:00:00:00:01' })
  await bed.api.createHostTap({ tap: 'host0' })
  const { status, stdout } = await ovsBridged(bed, context.signal, 'ls')
  assert.equal(status, 0)
  const cells = stdout.split('\n').map(line => line.split(/ {2,}/))
  assert.deepEqual(cells, [
    ['BRIDGE', 'DATAPATH', 'VLANS', 'TRUNKS', 'TUNNELS', 'BONDS', 'MIRRORS'],
    ['br0', 'netdev', '0,10', '-', '-', '-', '-'],
    [''],
    ['TAP', 'BRIDGE', 'VLAN', 'KIND', 'STATE', 'MAC', 'IPV4', 'IPV6', 'QOS'],
    ['host0', 'br0', '0', 'host', 'active', '-', '-', '-', '-'],
    ['vm1', 'br0', '10', 'tuntap', 'active', '02:00:00:00:00:01', '-', '-', '-'],
    [''],
  ])
  const json = JSON.parse((await ovsBridged(bed, context.signal, 'ls', '--json')).stdout) as {
    readonly bridges: readonly { readonly name: string }[]
    readonly taps: readonly { readonly name: string; readonly kind: string }[]
  }
  assert.deepEqual(
    [json.bridges.map(({ name }) => name), json.taps.map(({ name, kind }) => `${name} ${kind}`)],
    [['br0'], ['host0 TAP_KIND_HOST', 'vm1 TAP_KIND_TUNTAP']],
  )
})

laneTest('top shows the busiest tap first', options, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.createTap({ tap: 'vm1', vlan: 1 })
  await bed.api.createTap({ tap: 'vm2', vlan: 2 })
  const busy = bed.use(openTap('vm2'))
  const sending = setInterval(() => busy.send(testFrame(1, 1_000)), 5)
  bed.use({ [Symbol.dispose]: () => clearInterval(sending) })
  const args = ['top', '--interval', '0.2', '--count', '6', '--bridge', 'br0']
  const { status, stdout } = await ovsBridged(bed, context.signal, ...args)
  assert.equal(status, 0)
  const looks = stdout.trimEnd().split('\n\n')
  assert.equal(looks.length, 6)
  const [heads, ...taps] = (looks[5] ?? '').split('\n').map(line => line.split(/ {2,}/))
  assert.deepEqual(heads, ['TAP', 'BRIDGE', 'RX', 'TX', 'DROPPED'])
  assert.deepEqual(
    taps.map(([name]) => name),
    ['vm2', 'vm1'],
  )
  assert.match(taps[0]?.[3] ?? '', /^[1-9]/)
})

laneTest('top shows all taps on a terminal that does not know its size', options, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.createTap({ tap: 'vm1' })
  const top = quoted(process.execPath, mainProgram, 'top', '--interval', '0.2', '--server', bed.service.address)
  const terminal = bed.use(openTerminal(quoted('sh', '-c', `stty rows 0 && exec ${top}`)))
  await within('the tap is shown', 30_000, terminal.says('vm1'))
})

laneTest('watch addresses tells them line by line, and an interrupt is its proper end', options, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.createTap({ tap: 'vm1', vlan: 10 })
  const args = [mainProgram, 'watch', 'addresses', '--vlan', '10', '--server', bed.service.address]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  context.after(() => child.kill('SIGKILL'))
  const ended = once(child, 'close')
  const told = once(createInterface({ input: child.stdout }), 'line')
  const machine = bed.use(openTap('vm1'))
  machine.send(arp({ source: '02:00:00:00:00:01', ip: '10.0.0.7' }))
  assert.deepEqual(await within('an address is told', 30_000, told), [
    'learned 10.0.0.7 (02:00:00:00:00:01, ARP) behind vm1 on br0, VLAN 10',
  ])
  child.kill('SIGINT')
  assert.deepEqual(await within('it ends', 30_000, ended), [0, null])

  machine.send(arp({ source: '02:00:00:00:00:01', ip: '10.0.0.8' }))
  await until('the second is known', async () => (await bed.api.getTap({ tap: 'vm1' })).tap?.addresses.length === 2)
  const first = await ovsBridged(bed, context.signal, 'watch', 'addresses', '--count', '1')
  assert.deepEqual([first.status, first.stdout.match(/^learned /gm)?.length], [0, 1])
})

laneTest('drift ends with 0 when nothing differs, and with 3 and what differs', options, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.createTap({ tap: 'vm1', vlan: 10 })
  const none = await ovsBridged(bed, context.signal, 'drift')
  assert.deepEqual(none, { status: 0, stdout: 'all is as recorded\n', stderr: '' })

  const where = [['name', '==', 'vm1']]
  await bed.ovs.configure({ op: 'update', table: 'Port', where, row: { tag: 11 } })
  await until('the service has heard of it', async () => (await bed.api.reportDrift()).drifts.length > 0)
  const some = await ovsBridged(bed, context.signal, 'drift', '--bridge', 'br0')
  assert.deepEqual([some.status, some.stderr], [3, ''])
  assert.deepEqual(
    some.stdout.split('\n').map(line => line.split(/ {2,}/)),
    [['PORT', 'BRIDGE', 'DRIFT', 'RECORDED', 'FOUND'], ['vm1', 'br0', 'wrong tag', 'tag 10', 'tag 11'], ['']],
  )
  const json = await ovsBridged(bed, context.signal, 'drift', '--json')
  assert.equal(json.status, 3)
  assert.deepEqual(JSON.parse(json.stdout), {
    drifts: [{ port: 'vm1', bridge: 'br0', kind: 'DRIFT_KIND_WRONG_TAG', intended: 'tag 10', actual: 'tag 11' }],
  })
})

laneTest('a capture to a file tells on a terminal how far it has come', options, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.createTap({ tap: 'vm1' })
  const arguments_ = `capture --tap vm1 --write /dev/null --server ${bed.service.address}`
  const terminal = bed.use(openTerminal(`${quoted(process.execPath, mainProgram)} ${arguments_}`))
  const machine = bed.use(openTap('vm1'))
  const sending = setInterval(() => machine.send(testFrame(1, 1_000)), 20)
  bed.use({ [Symbol.dispose]: () => clearInterval(sending) })
  await within('bytes are counted', 30_000, terminal.says(' bytes'))
})

laneTest('what the service refuses is one line on standard error and exit 1', options, async context => {
  await using bed = await startServedTestbed(context.signal)
  const { status, stdout, stderr } = await ovsBridged(bed, context.signal, 'top', '--bridge', 'a bridge')
  assert.deepEqual([status, stdout], [1, ''])
  assert.match(stderr, /^ovs-bridged top: [^\n]*bridge[^\n]*\n$/)

  // What a file holds is gone only once the service has agreed.
  const file = join(tmpdir(), 'kept.pcapng')
  writeFileSync(file, 'kept')
  const capture = await ovsBridged(bed, context.signal, 'capture', '--tap', 'nobody', '--write', file)
  assert.deepEqual([capture.status, readFileSync(file, 'utf8')], [1, 'kept'])
  rmSync(file)
})

laneTest('what cannot be written is one line on standard error and exit 1', options, async context => {
  await using bed = await startServedTestbed(context.signal)
  for (const asked of ['check', 'ls', 'drift']) {
    const line = `${quoted(process.execPath, mainProgram, asked, '--server', bed.service.address)} >/dev/full`
    const { status, stderr } = await command(context.signal, 'bash', '-c', line)
    assert.deepEqual([status, stderr], [1, `ovs-bridged ${asked}: standard output cannot be written\n`])
  }
  const { status, stderr } = await ovsBridged(bed, context.signal, 'capture', '--bridge', 'br0', '-w', '/nowhere/file')
  assert.deepEqual([status, stderr], [1, 'ovs-bridged capture: /nowhere/file: ENOENT: no such file or directory\n'])
})
