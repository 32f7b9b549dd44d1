import assert from 'node:assert/strict'
import { test } from 'node:test'
import { summaryOf } from '../../src/server/audit.js'

for (const [what, request, summary] of [
  ['fields that are set', { tap: 'vm1', vlan: 7, gzip: true, id: 3n }, { tap: 'vm1', vlan: 7, gzip: true, id: 3 }],
  ['nothing of fields that are not', { tap: '', vlan: 0, gzip: false, id: 0n, qos: undefined, vlans: [] }, {}],
  ['the fields of a part', { qos: { rate: '10mbit', loss: undefined } }, { qos: { rate: '10mbit' } }],
  ['the one that is given of several', { target: { $case: 'tap', value: 'vm1' } }, { target: { tap: 'vm1' } }],
  ['the names in a list', { members: ['m0', 'm1'] }, { members: 'm0,m1' }],
  ['how many messages there are', { taps: [{ tap: 'a' }, { tap: 'b' }] }, { taps: 2 }],
  ['how many bytes there are', { data: Buffer.alloc(5) }, { data: 5 }],
  [
    'the columns that are set and not to what',
    { settings: ['external_ids:key=a=b\nc'] },
    { settings: 'external_ids:key' },
  ],
  ['64 characters of a text', { tap: 'v'.repeat(100) }, { tap: `${'v'.repeat(63)}\u2026` }],
  [
    '64 characters of a list',
    { taps: Array(20).fill('v'.repeat(10)) },
    { taps: `${'vvvvvvvvvv,'.repeat(6).slice(0, 63)}\u2026` },
  ],
  [
    '16 fields',
    Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`f${i}`, 1])),
    Object.fromEntries(Array.from({ length: 16 }, (_, i) => [`f${i}`, 1])),
  ],
] as const) {
  test(`the summary of a request has ${what}`, () => assert.deepEqual(summaryOf(request), summary))
}
