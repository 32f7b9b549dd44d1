import { laneTest } from '../support/lane.js'
import { addForeignBridge } from '../support/ovs.js'
import { assertRefused, invalid, type Refusal } from '../support/refusal.js'
import { startServedTestbed } from '../support/service.js'

const netns = '/proc/self/ns/net'

const refusals: Readonly<Record<string, Refusal>> = {
  'a name of 16 bytes': invalid(api => api.createTap({ tap: 'abcdefghijklmnop' }), 'tap'),
  'a name of 15 characters that are more bytes': invalid(api => api.createTap({ tap: 'abcdefghijklmné' }), 'tap'),
  'a name of spaces': invalid(api => api.createTap({ tap: '  ' }), 'tap'),
  'a name with a space': invalid(api => api.createTap({ tap: 'a b' }), 'tap'),
  'a name with a slash': invalid(api => api.createTap({ tap: 'a/b' }), 'tap'),
  'the name .': invalid(api => api.createTap({ tap: '.' }), 'tap'),
  'the name ..': invalid(api => api.createTap({ tap: '..' }), 'tap'),
  'a name with a NUL': invalid(api => api.createTap({ tap: 'a\0b' }), 'tap'),
  'the loopback': invalid(api => api.createTap({ tap: 'lo' }), 'tap'),
  'the name of all devices': invalid(api => api.createTap({ tap: 'all' }), 'tap'),
  'a name that Open vSwitch reserves': invalid(api => api.createHostTap({ tap: 'vxlan_sys_1' }), 'tap'),
  'VLAN 4096': invalid(api => api.createTap({ tap: 'new', vlan: 4096 }), 'vlan'),
  'a MAC of five octets': invalid(api => api.createTap({ tap: 'new', mac: '02:00:00:00:01' }), 'mac'),
  'a multicast MAC': invalid(api => api.createTap({ tap: 'new', mac: '01:00:5e:00:00:01' }), 'mac'),
  'a MAC of zeroes': invalid(api => api.createTap({ tap: 'new', mac: '00:00:00:00:00:00' }), 'mac'),
  'an MTU that IPv4 does not allow': invalid(api => api.createTap({ tap: 'new', mtu: 67 }), 'mtu'),
  'an owner that is none': invalid(api => api.createTap({ tap: 'new', ownerUid: 0xffff_ffff }), 'owner_uid'),
  'several faults': invalid(api => api.createTap({ tap: 'a b', mac: 'x', vlan: 5000 }), 'tap', 'vlan', 'mac'),
  'no namespace': invalid(api => api.createContainerTap({ tap: 'new', netns: '' }), 'netns'),
  'a relative path to a namespace': invalid(api => api.createContainerTap({ tap: 'new', netns: 'a/b' }), 'netns'),
  'an unknown namespace': {
    call: api => api.createContainerTap({ tap: 'new', netns: 'nowhere' }),
    code: 'NOT_FOUND',
    reason: 'NETNS_NOT_FOUND',
  },
  'a file that is no network namespace': {
    call: api => api.createContainerTap({ tap: 'new', netns: '/proc/self/ns/pid' }),
    code: 'NOT_FOUND',
    reason: 'NETNS_NOT_FOUND',
  },
  'a peer whose name the namespace has already': {
    call: api => api.createContainerTap({ tap: 'new', netns, vethIndex: 7 }),
    code: 'ALREADY_EXISTS',
    reason: 'NAME_TAKEN',
  },
  'a bridge that is not managed': {
    call: api => api.createTap({ tap: 'new', bridge: 'foreign' }),
    code: 'NOT_FOUND',
    reason: 'BRIDGE_NOT_FOUND',
  },
  'a bridge that does not exist': {
    call: api => api.createHostTap({ tap: 'new', bridge: 'nowhere' }),
    code: 'NOT_FOUND',
    reason: 'BRIDGE_NOT_FOUND',
  },
  'the name of a tap': { call: api => api.createTap({ tap: 'there' }), code: 'ALREADY_EXISTS', reason: 'NAME_TAKEN' },
  'the name of a bridge': { call: api => api.createTap({ tap: 'br0' }), code: 'ALREADY_EXISTS', reason: 'NAME_TAKEN' },
  "the name of somebody's port": {
    call: api => api.createHostTap({ tap: 'theirs' }),
    code: 'ALREADY_EXISTS',
    reason: 'NAME_TAKEN',
  },
  'a bridge with the name of a tap': {
    call: api => api.ensureBridge({ bridge: 'there' }),
    code: 'ALREADY_EXISTS',
    reason: 'NAME_TAKEN',
  },
  'a bridge with the name of a port': {
    call: api => api.ensureBridge({ bridge: 'theirs' }),
    code: 'ALREADY_EXISTS',
    reason: 'NAME_TAKEN',
  },
  'a bridge with a name of 16 bytes': invalid(api => api.ensureBridge({ bridge: 'abcdefghijklmnop' }), 'bridge'),
  "a bridge with the name of the datapath's device": invalid(
    api => api.ensureBridge({ bridge: 'ovs-system' }),
    'bridge',
  ),
  'destroying no bridge in particular': invalid(api => api.destroyBridge({ bridge: '' }), 'bridge'),
  "destroying somebody's bridge": {
    call: api => api.destroyBridge({ bridge: 'foreign' }),
    code: 'FAILED_PRECONDITION',
    reason: 'NOT_OWNED',
  },
  'destroying a tap that does not exist': {
    call: api => api.destroyTap({ tap: 'new' }),
    code: 'NOT_FOUND',
    reason: 'TAP_NOT_FOUND',
  },
  "destroying somebody's port": {
    call: api => api.destroyTap({ tap: 'theirs' }),
    code: 'NOT_FOUND',
    reason: 'TAP_NOT_FOUND',
  },
  'looking for a tap without a name': invalid(api => api.getTap({ tap: '' }), 'tap'),
  'a page token that is none': invalid(api => api.listTaps({ pageToken: 'x' }), 'page_token'),
}

laneTest('what is refused leaves database and devices exactly as they were', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await addForeignBridge(bed.ovs, 'foreign', [{ name: 'theirs', type: 'internal' }])
  await bed.api.createTap({ tap: 'there' })
  await bed.api.createContainerTap({ tap: 'there2', netns, vethIndex: 7 })
  await assertRefused(bed, refusals)
})
