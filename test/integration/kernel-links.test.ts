import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, openSync, readdirSync } from 'node:fs'
import { constants, release } from 'node:os'
import {
  type Kernel,
  KernelError,
  type KernelProblem,
  type LinkEvent,
  type LinkName,
  type MacAddress,
  openKernel,
  parseLinkName,
  parseMacAddress,
  type TapSpec,
  type VethSpec,
} from '../../src/kernel/index.js'
import { encodeLinkQuery, RTM_GETLINK } from '../../src/kernel/netlink/link-message.js'
import { NETLINK_ROUTE, openNetlinkSocket } from '../../src/kernel/netlink/socket.js'
import { loadSyscalls } from '../../src/lib/syscall.js'
import { laneTest } from '../support/lane.js'
import { createNamespace, enterNamespace } from '../support/namespace.js'
import { until } from '../support/until.js'

/** A kernel over an empty namespace; threads begin in the namespace of the thread that starts them. */
async function inNewNamespace(use: (kernel: Kernel, fd: number) => Promise<void>): Promise<void> {
  using _namespace = enterNamespace()
  const fd = openSync('/proc/thread-self/ns/net', 'r')
  try {
    await using kernel = await openKernel()
    await use(kernel, fd)
  } finally {
    closeSync(fd)
  }
}

async function withNamedNetns(use: (name: string) => Promise<void>): Promise<void> {
  using namespace = createNamespace()
  await use(namespace.name)
}

function name(text: string): LinkName {
  const parsed = parseLinkName(text)
  assert.ok(parsed.ok)
  return parsed.value
}

function mac(text: string): MacAddress {
  const parsed = parseMacAddress(text)
  assert.ok(parsed.ok)
  return parsed.value
}

function tap(text: string, more: Partial<TapSpec> = {}): TapSpec {
  return { name: name(text), alias: 'a test', multiQueue: false, ...more }
}

function veth(text: string, netns: string, more: Partial<VethSpec> = {}): VethSpec {
  return { name: name(text), alias: 'a test', netns, peerName: name('veth0'), ...more }
}

function taps(count: number): TapSpec[] {
  return Array.from({ length: count }, (_, i) => tap(`t${i}`))
}

function deadline(): AbortSignal {
  return AbortSignal.timeout(60_000)
}

async function problemOf(promise: Promise<unknown>): Promise<KernelProblem> {
  const error: unknown = await promise.then(
    () => assert.fail('it should have been refused'),
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof KernelError, String(error))
  return error.problem
}

/** Of the taps and veths: a new namespace has devices of the kernel's own. */
async function names(kernel: Kernel): Promise<string[]> {
  const links = await kernel.listLinks(deadline())
  return links.filter(link => link.kind === 'tun' || link.kind === 'veth').map(link => link.name)
}

/** The events from now on until one meets `last`. */
async function eventsDuring(
  kernel: Kernel,
  act: () => Promise<unknown>,
  last: (event: LinkEvent) => boolean,
): Promise<LinkEvent[]> {
  const events: LinkEvent[] = []
  for await (const event of kernel.watchLinks(deadline())) {
    if (event.type === 'subscribed') await act()
    else events.push(event)
    if (last(event)) return events
  }
  return assert.fail(`the stream ended after ${events.length} events`)
}

function kernelIsAtLeast(major: number, minor: number): boolean {
  const [ours = 0, ourMinor = 0] = release()
    .split('.')
    .map(part => Number.parseInt(part, 10))
  return ours > major || (ours === major && ourMinor >= minor)
}

/** The user-mode kernel is slow; what does not depend on the kernel's version is shown once. */
const anyKernel = { only: 'userspace' } as const

laneTest('a tap is made as it was asked for', anyKernel, () =>
  inNewNamespace(async kernel => {
    const spec = tap('tap0', { mtuBytes: 1400, ownerUid: 1234, multiQueue: true, alias: 'für 0' })
    const [made] = await kernel.createTaps([spec], deadline())
    const found = await kernel.getLink('tap0', deadline())
    assert.ok(found !== undefined)
    assert.deepEqual(made, { name: 'tap0', index: found.index })
    const { name: n, kind, tun, mtuBytes, up, promiscuous, alias, group } = found
    assert.deepEqual(
      { n, kind, tun, mtuBytes, up, promiscuous, alias, group },
      {
        n: 'tap0',
        kind: 'tun',
        tun: { ownerUid: 1234, persistent: true, multiQueue: true },
        mtuBytes: 1400,
        up: true,
        promiscuous: true,
        alias: 'für 0',
        group: 0,
      },
    )
  }),
)

laneTest('each of many taps that are made together is as it was asked for', anyKernel, () =>
  inNewNamespace(async kernel => {
    const specs = taps(50).map((spec, i) => ({ ...spec, alias: `the ${i}th`, mtuBytes: 1300 + i }))
    const made = await kernel.createTaps(specs, deadline())
    const links = new Map((await kernel.listLinks(deadline())).map(link => [link.name, link]))
    assert.deepEqual(
      made.map(({ name: n, index }) => [n, index, links.get(n)?.alias, links.get(n)?.mtuBytes]),
      specs.map(({ name: n, alias, mtuBytes }) => [n, links.get(n)?.index, alias, mtuBytes]),
    )
    assert.ok(
      made.every(({ name: n }) => links.get(n)?.up && links.get(n)?.promiscuous && links.get(n)?.tun?.persistent),
    )
  }),
)

laneTest('of many taps that are made together a refused one is named, and none is left', anyKernel, () =>
  inNewNamespace(async kernel => {
    const specs = taps(50).map((spec, i) => (i === 40 ? { ...spec, mtuBytes: 40 } : spec))
    const problem = await problemOf(kernel.createTaps(specs, deadline()))
    assert.deepEqual([problem.kind, problem.device, problem.specIndex], ['refused', 't40', 40])
    assert.deepEqual(await names(kernel), [])
  }),
)

laneTest('a tap keeps the host silent: no IPv6 address comes by itself and no ARP is answered', {}, () =>
  inNewNamespace(async kernel => {
    await kernel.createTaps([tap('tap0')], deadline())
    assert.match(execFileSync('ip', ['-d', 'link', 'show', 'tap0'], { encoding: 'utf8' }), /addrgenmode none/)
    const sysctl = execFileSync('unshare', [
      '-m',
      'sh',
      '-c',
      'mount -t sysfs s /sys; cat /proc/sys/net/ipv4/conf/tap0/arp_ignore',
    ])
    assert.equal(sysctl.toString().trim(), '8')
  }),
)

laneTest('requests whose answers find no room are told so, and the next request is answered', anyKernel, () =>
  inNewNamespace(() => {
    const opened = openNetlinkSocket(loadSyscalls(), NETLINK_ROUTE)
    assert.ok(opened.ok)
    using route = opened.value
    const question = { type: RTM_GETLINK, payload: encodeLinkQuery(1, undefined) }
    const answers = route.requestEach(Array.from({ length: 5_000 }, () => question))
    assert.deepEqual(new Set(answers.map(([, { errno }]) => errno)), new Set([constants.errno.ENOBUFS]))
    assert.equal(route.request(question).errno, 0)
    return Promise.resolve()
  }),
)

laneTest('a tap with an MTU too small for IPv6 is made all the same', anyKernel, () =>
  inNewNamespace(async kernel => {
    await kernel.createTaps([tap('tap0', { mtuBytes: 576 })], deadline())
    assert.equal((await kernel.getLink('tap0', deadline()))?.mtuBytes, 576)
  }),
)

laneTest('a name that is taken is refused by its index, and the taps before it are gone', anyKernel, () =>
  inNewNamespace(async kernel => {
    await kernel.createTaps([tap('old')], deadline())
    const problem = await problemOf(kernel.createTaps([tap('a'), tap('b'), tap('old')], deadline()))
    assert.equal(problem.kind, 'exists')
    assert.equal(problem.specIndex, 2)
    assert.equal(problem.device, 'old')
    assert.deepEqual(await names(kernel), ['old'])
  }),
)

laneTest(
  'of calls that are served together, those that are refused leave nothing and hold up no other',
  anyKernel,
  () =>
    inNewNamespace(async kernel => {
      await kernel.createTaps([tap('old')], deadline())
      // More than are made side by side in one group.
      const many = Array.from({ length: 17 }, (_, i) => tap(`m${i}`))
      const singles = taps(40).map(spec => kernel.createTaps([spec], deadline()))
      const refused = [
        problemOf(kernel.createTaps([...many, tap('old'), tap('b')], deadline())),
        problemOf(kernel.createTaps([tap('c'), tap('d', { mtuBytes: 40 })], deadline())),
        problemOf(kernel.createTaps([tap('e'), tap('t39')], deadline())),
      ]
      const last = kernel.createTaps([tap('last0'), tap('last1')], deadline())
      assert.deepEqual(
        (await Promise.all(refused)).map(({ kind, specIndex, device }) => [kind, specIndex, device]),
        [
          ['exists', 17, 'old'],
          ['refused', 1, 'd'],
          ['exists', 1, 't39'],
        ],
      )
      const made = [...(await Promise.all(singles)), await last].flat()
      assert.deepEqual((await names(kernel)).toSorted(), ['old', ...made.map(device => device.name)].toSorted())
      const links = new Map((await kernel.listLinks(deadline())).map(link => [link.name, link]))
      for (const device of made) assert.ok(links.get(device.name)?.up && links.get(device.name)?.index === device.index)
    }),
)

laneTest('a name that comes again at once is free when the call before could not have it', anyKernel, () =>
  inNewNamespace(async kernel => {
    const first = kernel.createTaps([tap('first')], deadline())
    const refused = problemOf(kernel.createTaps([tap('again'), tap('first')], deadline()))
    const again = kernel.createTaps([tap('again')], deadline())
    assert.equal((await refused).device, 'first')
    assert.deepEqual(
      (await names(kernel)).toSorted(),
      [...(await first), ...(await again)].map(({ name: n }) => n).toSorted(),
    )
  }),
)

laneTest('a call that ends while others are served with it leaves nothing, and theirs stand', anyKernel, () =>
  inNewNamespace(async kernel => {
    const caller = new AbortController()
    const leaving = Array.from({ length: 40 }, (_, i) => tap(`l${i}`))
    const calls: { readonly others: Promise<unknown>[]; leaver?: Promise<boolean> } = { others: [] }
    await eventsDuring(
      kernel,
      () => {
        calls.others.push(...taps(20).map(spec => kernel.createTaps([spec], deadline())))
        calls.leaver = kernel.createTaps(leaving, caller.signal).then(
          () => true,
          () => false,
        )
        calls.others.push(kernel.createTaps([tap('behind')], deadline()))
        return Promise.resolve()
      },
      event => event.type === 'changed' && event.link.name === 't3',
    )
    caller.abort()
    // On a busy machine it may be complete by then.
    const expected = [tap('behind'), ...taps(20), ...((await calls.leaver) ? leaving : [])]
    await Promise.all(calls.others)
    assert.deepEqual((await names(kernel)).toSorted(), expected.map(spec => spec.name).toSorted())
  }),
)

laneTest('an MTU that the kernel refuses leaves nothing and comes with its own words', anyKernel, () =>
  inNewNamespace(async kernel => {
    const problem = await problemOf(kernel.createTaps([tap('a'), tap('b', { mtuBytes: 40 })], deadline()))
    assert.ok(problem.kind === 'refused')
    assert.deepEqual(problem.refusal, { errno: 'EINVAL', message: 'mtu less than device minimum' })
    assert.deepEqual(await names(kernel), [])
  }),
)

laneTest('an alias of more than 255 bytes leaves nothing', anyKernel, () =>
  inNewNamespace(async kernel => {
    const problem = await problemOf(kernel.createTaps([tap('a', { alias: 'x'.repeat(256) })], deadline()))
    assert.equal(problem.kind, 'refused')
    assert.deepEqual(await names(kernel), [])
  }),
)

/** The kernel notices a carrier that is gone when it is asked for the device. */
const asksForCarrier = kernelIsAtLeast(6, 8)

laneTest('a tap is born and goes up, and an older kernel tells of its carrier too', anyKernel, () =>
  inNewNamespace(async kernel => {
    const events = await eventsDuring(
      kernel,
      () => kernel.createTaps([tap('tap0'), tap('end')], deadline()),
      event => event.type === 'changed' && event.link.name === 'end' && event.link.up,
    )
    const ups = events.flatMap(event => (event.type === 'changed' && event.link.name === 'tap0' ? [event.link.up] : []))
    assert.ok(ups.length <= (asksForCarrier ? 2 : 3), `${ups.length} events`)
    assert.deepEqual(ups.slice(0, 2), [false, true])
  }),
)

laneTest('a veth has its peer, up and with its address, in the other namespace', {}, () =>
  withNamedNetns(netns =>
    inNewNamespace(async kernel => {
      const spec = veth('ct0', netns, { mac: mac('02-00-00-00-00-AA'), mtuBytes: 1400 })
      const { link, peerMac } = await kernel.createVeth(spec, deadline())
      assert.deepEqual(
        [link.name, link.kind, link.up, link.alias, link.mtuBytes, peerMac],
        ['ct0', 'veth', true, 'a test', 1400, '02:00:00:00:00:aa'],
      )
      const peer = execFileSync('ip', ['-n', netns, '-o', 'link', 'show', 'veth0'], { encoding: 'utf8' })
      assert.match(peer, new RegExp(`^${link.peerIndex}: veth0@.*[<,]UP.* mtu 1400 .*02:00:00:00:00:aa`))
      assert.doesNotMatch(execFileSync('ip', ['-6', 'addr', 'show', 'dev', 'ct0'], { encoding: 'utf8' }), /inet6/)
    }),
  ),
)

laneTest('a peer without an address given gets a random one of its own, and it is told', anyKernel, () =>
  withNamedNetns(netns =>
    inNewNamespace(async kernel => {
      const { peerMac } = await kernel.createVeth(veth('ct0', netns), deadline())
      assert.match(peerMac, /^[0-9a-f][26ae]:/)
      assert.match(
        execFileSync('ip', ['-n', netns, 'link', 'show', 'veth0'], { encoding: 'utf8' }),
        new RegExp(peerMac),
      )
    }),
  ),
)

laneTest('a peer may bear the name of a device on this side', {}, () =>
  withNamedNetns(netns =>
    inNewNamespace(async kernel => {
      await kernel.createTaps([tap('veth0')], deadline())
      await kernel.createVeth(veth('ct0', netns), deadline())
      assert.match(execFileSync('ip', ['-n', netns, 'link', 'show', 'veth0'], { encoding: 'utf8' }), /[<,]UP/)
      assert.deepEqual((await names(kernel)).toSorted(), ['ct0', 'veth0'])
    }),
  ),
)

laneTest('a veth whose own name is taken is refused by that name', anyKernel, () =>
  withNamedNetns(netns =>
    inNewNamespace(async kernel => {
      await kernel.createTaps([tap('ct0')], deadline())
      const problem = await problemOf(kernel.createVeth(veth('ct0', netns), deadline()))
      assert.deepEqual([problem.kind, problem.device], ['exists', 'ct0'])
    }),
  ),
)

laneTest(
  'a veth whose peer exists in the other namespace is refused by the name of the peer and leaves nothing',
  anyKernel,
  () =>
    withNamedNetns(netns =>
      inNewNamespace(async kernel => {
        await kernel.createVeth(veth('ct0', netns), deadline())
        const problem = await problemOf(kernel.createVeth(veth('ct1', netns), deadline()))
        assert.deepEqual([problem.kind, problem.device], ['exists', 'veth0'])
        assert.deepEqual(await names(kernel), ['ct0'])
      }),
    ),
)

for (const [what, netns] of [
  ['that is not there', 'kt-none'],
  ['that is a file of another kind', '/etc/hostname'],
  ['of another type', '/proc/self/ns/mnt'],
  ['with a relative path', '../netns/x'],
  ['of no name', ''],
] as const) {
  laneTest(`a namespace ${what} is no-netns`, anyKernel, () =>
    inNewNamespace(async kernel => {
      const problem = await problemOf(kernel.createVeth(veth('ct0', netns), deadline()))
      assert.equal(problem.kind, 'no-netns')
    }),
  )
}

laneTest('a veth alias that the kernel refuses leaves nothing on either side', anyKernel, () =>
  withNamedNetns(netns =>
    inNewNamespace(async kernel => {
      const problem = await problemOf(kernel.createVeth(veth('ct0', netns, { alias: 'x'.repeat(256) }), deadline()))
      assert.equal(problem.kind, 'refused')
      assert.deepEqual(await names(kernel), [])
    }),
  ),
)

laneTest('a veth costs three link events at most', {}, () =>
  withNamedNetns(netns =>
    inNewNamespace(async kernel => {
      const events = await eventsDuring(
        kernel,
        async () => {
          await kernel.createVeth(veth('ct0', netns), deadline())
          await kernel.createTaps([tap('end')], deadline())
        },
        event => event.type === 'changed' && event.link.name === 'end' && event.link.up,
      )
      const ours = events.filter(event => event.type === 'changed' && event.link.name === 'ct0')
      assert.ok(ours.length <= 3, `${ours.length} events`)
    }),
  ),
)

laneTest('a device that is not there reads as undefined', anyKernel, () =>
  inNewNamespace(async kernel => {
    assert.equal(await kernel.getLink('nothing', deadline()), undefined)
  }),
)

laneTest('an alternative name is not a name', anyKernel, () =>
  inNewNamespace(async kernel => {
    await kernel.createTaps([tap('tap0')], deadline())
    execFileSync('ip', ['link', 'property', 'add', 'dev', 'tap0', 'altname', 'other'])
    assert.equal(await kernel.getLink('other', deadline()), undefined)
    assert.deepEqual((await kernel.deleteLinks([{ name: 'other' }], deadline())).missing, ['other'])
  }),
)

laneTest('setLink changes what it is given and keeps the rest', anyKernel, () =>
  inNewNamespace(async kernel => {
    await kernel.createTaps([tap('tap0')], deadline())
    await kernel.setLink('tap0', { promiscuous: true, mtuBytes: 9000 }, deadline())
    const changed = await kernel.getLink('tap0', deadline())
    assert.deepEqual(
      [changed?.promiscuous, changed?.mtuBytes, changed?.up, changed?.alias],
      [true, 9000, true, 'a test'],
    )
    await kernel.setLink('tap0', { promiscuous: false, up: false, alias: '' }, deadline())
    const again = await kernel.getLink('tap0', deadline())
    assert.deepEqual([again?.promiscuous, again?.mtuBytes, again?.up, again?.alias], [false, 9000, false, ''])
  }),
)

laneTest('setLink of a device that is not there is no-device', anyKernel, () =>
  inNewNamespace(async kernel => {
    const problem = await problemOf(kernel.setLink('nothing', { up: true }, deadline()))
    assert.deepEqual([problem.kind, problem.device], ['no-device', 'nothing'])
  }),
)

laneTest('two hundred taps go by group, and a foreign device stays', {}, () =>
  inNewNamespace(async kernel => {
    const specs = taps(200)
    const made = await kernel.createTaps([...specs, tap('foreign')], deadline())
    const before = await kernel.getLink('foreign', deadline())
    const targets = made.filter(link => link.name !== 'foreign')
    const { deleted, missing, failed } = await kernel.deleteLinks([...targets, { name: 'nothing' }], deadline())
    assert.equal(deleted.length, 200)
    assert.deepEqual([missing, failed], [['nothing'], []])
    assert.deepEqual(await kernel.getLink('foreign', deadline()), before)
    assert.deepEqual(await names(kernel), ['foreign'])
  }),
)

laneTest('a later device of the same name is left alone when the index is given', anyKernel, () =>
  inNewNamespace(async kernel => {
    const [first] = await kernel.createTaps([tap('tap0')], deadline())
    await kernel.deleteLinks([{ name: 'tap0' }], deadline())
    await kernel.createTaps([tap('tap0')], deadline())
    assert.ok(first !== undefined)
    const { deleted, missing } = await kernel.deleteLinks([{ name: 'tap0', index: first.index }], deadline())
    assert.deepEqual([deleted, missing, await names(kernel)], [[], ['tap0'], ['tap0']])
  }),
)

laneTest('a device that cannot be deleted does not hold up the others', anyKernel, () =>
  inNewNamespace(async kernel => {
    await kernel.createTaps(taps(3), deadline())
    const targets = ['t0', 'lo', 't1', 't2'].map(n => ({ name: n }))
    const { deleted, failed } = await kernel.deleteLinks(targets, deadline())
    assert.deepEqual(deleted.toSorted(), ['t0', 't1', 't2'])
    assert.deepEqual(
      failed.map(({ name: n, error }) => [n, error.errno]),
      [['lo', 'EOPNOTSUPP']],
    )
  }),
)

laneTest('deleting a veth takes its peer along', anyKernel, () =>
  withNamedNetns(netns =>
    inNewNamespace(async kernel => {
      await kernel.createVeth(veth('ct0', netns), deadline())
      await kernel.deleteLinks([{ name: 'ct0' }], deadline())
      assert.doesNotMatch(execFileSync('ip', ['-n', netns, 'link'], { encoding: 'utf8' }), /veth0/)
    }),
  ),
)

laneTest('a signal that has fired lets nothing happen', anyKernel, () =>
  inNewNamespace(async kernel => {
    const problem = await problemOf(kernel.createTaps([tap('tap0')], AbortSignal.abort()))
    assert.equal(problem.kind, 'aborted')
    assert.deepEqual(await names(kernel), [])
  }),
)

laneTest('a call that waits behind another is dropped by its signal', anyKernel, () =>
  inNewNamespace(async kernel => {
    const before = kernel.createTaps(taps(100), deadline())
    const caller = new AbortController()
    const waiting = problemOf(kernel.createTaps([tap('late')], caller.signal))
    caller.abort()
    assert.equal((await waiting).kind, 'aborted')
    assert.equal((await before).length, 100)
    assert.equal(await kernel.getLink('late', deadline()), undefined)
  }),
)

laneTest('taps of a call that is aborted in the middle are gone before the next call', anyKernel, () =>
  inNewNamespace(async kernel => {
    const caller = new AbortController()
    const call: { outcome?: Promise<KernelProblem> } = {}
    await eventsDuring(
      kernel,
      () => {
        call.outcome = problemOf(kernel.createTaps(taps(10_000), caller.signal))
        return Promise.resolve()
      },
      event => event.type === 'changed' && event.link.name === 't5',
    )
    caller.abort()
    assert.equal((await call.outcome)?.kind, 'aborted')
    assert.deepEqual(await names(kernel), [])
    // Indexes only grow: not all of the ten thousand were made.
    const [next] = await kernel.createTaps([tap('next')], deadline())
    assert.ok(next !== undefined && next.index < 9_500, `index ${next?.index}`)
  }),
)

laneTest(
  'whenever its signal comes, a tap is there if the call succeeded and not there if it was aborted',
  anyKernel,
  () =>
    inNewNamespace(async kernel => {
      const outcomes = new Set<string>()
      for (let delayUs = 0; delayUs < 2000; delayUs += 50) {
        const caller = new AbortController()
        const call = kernel.createTaps([tap('tap0')], caller.signal).then(
          () => 'made',
          () => 'aborted',
        )
        const start = process.hrtime.bigint()
        while (process.hrtime.bigint() - start < BigInt(delayUs) * 1000n);
        caller.abort()
        const outcome = await call
        outcomes.add(outcome)
        assert.deepEqual(await names(kernel), outcome === 'made' ? ['tap0'] : [], `after ${delayUs} µs`)
        await kernel.deleteLinks([{ name: 'tap0' }], deadline())
      }
      assert.ok(outcomes.has('aborted'))
    }),
)

laneTest('closing the kernel rejects what waits and leaves nothing of it', anyKernel, () =>
  inNewNamespace(async () => {
    const kernel = await openKernel()
    const waiting = problemOf(kernel.createTaps(taps(50), deadline()))
    await kernel[Symbol.asyncDispose]()
    assert.equal((await waiting).kind, 'aborted')
    assert.equal((await problemOf(kernel.listLinks(deadline()))).kind, 'aborted')
    await using again = await openKernel()
    assert.deepEqual(await names(again), [])
  }),
)

laneTest('a watch tells of what comes, changes and goes', anyKernel, () =>
  inNewNamespace(async kernel => {
    const events = await eventsDuring(
      kernel,
      async () => {
        await kernel.createTaps([tap('tap0')], deadline())
        await kernel.setLink('tap0', { mtuBytes: 1300 }, deadline())
        await kernel.deleteLinks([{ name: 'tap0' }], deadline())
      },
      event => event.type === 'gone',
    )
    const gone = events.at(-1)
    assert.ok(gone?.type === 'gone')
    assert.equal(gone.name, 'tap0')
    assert.ok(
      events.some(event => event.type === 'changed' && event.link.mtuBytes === 1300 && event.link.index === gone.index),
    )
  }),
)

laneTest(
  'a watch that is aborted, or whose kernel is closed, ends without a throw and leaves no descriptor',
  anyKernel,
  () =>
    inNewNamespace(async () => {
      const kernel = await openKernel()
      const openBefore = readdirSync('/proc/self/fd').length
      const caller = new AbortController()
      const seen: string[] = []
      for await (const { type } of kernel.watchLinks(caller.signal)) {
        seen.push(type)
        caller.abort()
      }
      const isFree = () => readdirSync('/proc/self/fd').length <= openBefore
      await until('its descriptor is closed', isFree)
      for await (const { type } of kernel.watchLinks(deadline())) {
        seen.push(type)
        void kernel[Symbol.asyncDispose]()
      }
      assert.deepEqual(seen, ['subscribed', 'subscribed'])
      await until('the descriptors are closed', isFree)
    }),
)

laneTest('the probe tells what there is and changes nothing', {}, () =>
  inNewNamespace(async kernel => {
    const before = execFileSync('tc', ['qdisc', 'show'], { encoding: 'utf8' })
    const facts = await kernel.probe(deadline())
    assert.equal(facts.tunDevice, true)
    assert.equal(facts.netAdmin, true)
    assert.equal(execFileSync('tc', ['qdisc', 'show'], { encoding: 'utf8' }), before)
  }),
)
