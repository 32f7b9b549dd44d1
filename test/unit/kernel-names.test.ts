import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseLinkName, parseMacAddress } from '../../src/kernel/index.js'

for (const name of ['a', 'tap0', 'eth0.100', 'a-b_c@d', '...', 'x'.repeat(15), 'für-äpfel', 'é'.repeat(7)]) {
  test(`${name} is a device name`, () => {
    assert.deepEqual(parseLinkName(name), { ok: true, value: name })
  })
}

const badNames: [string, string][] = [
  ['', 'is empty'],
  ['.', 'is "."'],
  ['..', 'is ".."'],
  ['x'.repeat(16), 'is 16 bytes long, the limit is 15'],
  ['é'.repeat(8), 'is 16 bytes long, the limit is 15'],
  ['a/b', 'contains "/"'],
  ['a:1', 'contains ":"'],
  ['a b', 'contains " "'],
  ['a\n', 'contains "\\n"'],
  ['a\u00a0b', 'contains "\u00a0"'],
  ['a\0', 'contains "\\u0000"'],
  ['tap%d', 'contains "%"'],
  ['a\ud800', 'contains "\\ud800"'],
  ['a\u202eb', 'contains "\u202e"'],
  ['a\u200bb', 'contains "\u200b"'],
  ['\ufeffa', 'contains "\ufeff"'],
]
for (const [name, reason] of badNames) {
  test(`${JSON.stringify(name)} is no device name: ${reason}`, () => {
    assert.deepEqual(parseLinkName(name), { ok: false, reason })
  })
}

for (const [text, mac] of [
  ['02:00:00:00:00:01', '02:00:00:00:00:01'],
  ['02-AB-cd-00-00-01', '02:ab:cd:00:00:01'],
  ['00:00:00:00:00:01', '00:00:00:00:00:01'],
] as const) {
  test(`${text} is the address ${mac}`, () => {
    assert.deepEqual(parseMacAddress(text), { ok: true, value: mac })
  })
}

const badMacs: [string, string][] = [
  ['', 'is not six octets like 02:00:00:00:00:01'],
  ['02:00:00:00:00', 'is not six octets like 02:00:00:00:00:01'],
  ['02:00:00:00:00:01:02', 'is not six octets like 02:00:00:00:00:01'],
  ['02:00-00:00:00:01', 'is not six octets like 02:00:00:00:00:01'],
  ['020000000001', 'is not six octets like 02:00:00:00:00:01'],
  ['02:00:00:00:00:0g', 'is not six octets like 02:00:00:00:00:01'],
  ['02:00:00:00:00:01\n', 'is not six octets like 02:00:00:00:00:01'],
  ['00:00:00:00:00:00', 'is all zeroes'],
  ['01:00:5e:00:00:01', 'is a multicast address'],
  ['ff:ff:ff:ff:ff:ff', 'is a multicast address'],
]
for (const [text, reason] of badMacs) {
  test(`${JSON.stringify(text)} is no address: ${reason}`, () => {
    assert.deepEqual(parseMacAddress(text), { ok: false, reason })
  })
}
