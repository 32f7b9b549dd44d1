import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseWriterTarget, writerName } from '../../src/netflow/index.js'

test('the name of a writer is what it was given', () => {
  for (const name of [
    'file:flows.txt',
    'file:lab/day 1/flows.nf5',
    'file:a:b',
    'tcp:127.0.0.1:1',
    'tcp:collector.example.org:2055',
    'udp:[2001:db8::1]:65535',
    'udp:localhost:9995',
  ]) {
    const target = parseWriterTarget(name)
    assert(target.ok, `${name} ${target.ok ? '' : target.reason}`)
    assert.equal(writerName(target.value), name)
  }
})

test('what is no place to write to is refused', () => {
  for (const name of [
    '',
    'flows.txt',
    'FILE:a',
    'ftp:a',
    'file:',
    'file:/etc/passwd',
    'file:../a',
    'file:a/../b',
    'file:a/..',
    'file:./a',
    'file:a//b',
    'file:a/',
    'file:a\0b',
    `file:${'a'.repeat(256)}`,
    `file:${'a/'.repeat(600)}a`,
    'tcp:',
    'tcp:host',
    'tcp:host:0',
    'tcp:host:65536',
    'tcp:host:-1',
    'tcp:host:12a',
    'tcp::1',
    'tcp:::1:80',
    'tcp:[::1:80',
    'udp:[127.0.0.1]:80',
    'udp:ho st:80',
    'udp:-host:80',
    'udp:a..b:80',
    `udp:${'a'.repeat(64)}:80`,
  ]) {
    assert.equal(parseWriterTarget(name).ok, false, name)
  }
})
