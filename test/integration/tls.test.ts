import assert from 'node:assert/strict'
import { testFrame } from '../support/captured.js'
import { createAuthority, type Issued, roleUri } from '../support/certificates.js'
import { command, mainProgram } from '../support/command.js'
import { spawnDaemon } from '../support/daemon-process.js'
import { openTap } from '../support/frame-socket.js'
import { laneTest } from '../support/lane.js'
import { connectTo } from '../support/rpc.js'
import { startTestbed } from '../support/testbed.js'
import { until } from '../support/until.js'

// A command and a service: nothing of the datapath.
const userspace = { only: 'userspace', timeoutMs: 85_000 } as const

laneTest('over TLS the command line does what its certificate lets it, captures too', userspace, async context => {
  using authority = createAuthority()
  await using bed = await startTestbed(context.signal)
  const served = authority.issue('server')
  const files = ['--tls-cert', served.cert, '--tls-key', served.key, '--tls-client-ca', authority.ca]
  const daemon = bed.use(await spawnDaemon(bed.ovs, { flags: ['--listen', '127.0.0.1:0', ...files] }))
  const [, address = ''] = /listens on .*, (127\.0\.0\.1:\d+)$/m.exec(daemon.stdout()) ?? []
  using local = connectTo(daemon.address)
  await local.api.ensureBridge()
  await local.api.createTap({ tap: 'one', vlan: 10 })
  const one = bed.use(openTap('one'))
  const ask = ({ cert, key }: Issued, ...words: readonly string[]) => {
    const shown = ['--server', address, '--tls-ca', authority.ca, '--tls-cert', cert, '--tls-key', key]
    return command(context.signal, process.execPath, mainProgram, ...words, ...shown)
  }

  const capturing = authority.issue('alice', roleUri('capture'))
  const file = `${authority.directory}/one.pcapng`
  let ended = false
  const filter = ['--filter', 'ether proto 0x88b5', '--count', '3']
  const captured = ask(capturing, 'capture', '--tap', 'one', ...filter, '--write', file).finally(() => (ended = true))
  let sent = 0
  await until('three packets', () => {
    if (!ended) one.send(testFrame(sent++, 100))
    return ended
  })
  assert.deepEqual(await captured, { status: 0, stdout: '', stderr: '' })
  const read = await command(context.signal, 'tcpdump', '-nnr', file)
  assert.equal(read.stdout.match(/ethertype Unknown \(0x88b5\), length 100/g)?.length, 3)

  const looking = authority.issue('bob', roleUri('viewer'))
  const listed = await ask(looking, 'capture', '--list')
  assert.deepEqual([listed.status, listed.stdout.includes('tap\tone\t')], [0, true], listed.stderr)
  const refused = await ask(looking, 'capture', '--tap', 'one', '--write', '/dev/null')
  assert.deepEqual(refused, { status: 1, stdout: '', stderr: 'ovs-bridged capture: not permitted\n' })
  using other = createAuthority()
  const foreign = await ask(other.issue('mallory', roleUri('admin')), 'ls')
  assert.deepEqual([foreign.status, foreign.stdout], [1, ''])
  assert.match(foreign.stderr, /^ovs-bridged ls: [^\n]+\n$/)
})
