import assert from 'node:assert/strict'
import { test } from 'node:test'
import { netflowMarks, readNetflowRecord, writerKeys, writerMarks } from '../../src/bridge/ownership.js'
import { parseFileIdentity } from '../../src/lib/safe-file.js'
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

test('writers and the files that they have made are read as they were marked', () => {
  const file = parseFileIdentity('131:1700000000123456789')
  const [flows, peer] = [parseWriterTarget('file:flows'), parseWriterTarget('udp:[2001:db8::1]:1')]
  assert(file.ok && flows.ok && peer.ok)
  const toFile = { target: flows.value, format: 'ascii', gzip: true } as const
  const toPeer = { target: peer.value, format: 'raw', gzip: false } as const
  const ids: Map<string, string | undefined> = new Map([
    ...netflowMarks('default', { id: 'a', endWithLastWriter: true }),
    ...writerMarks(toFile, file.value),
    ...writerMarks(toPeer, undefined),
  ])
  const read = () =>
    readNetflowRecord('default', new Map([...ids].flatMap(([k, v]) => (v === undefined ? [] : [[k, v]]))))
  const writers = new Map<string, unknown>([
    ['file:flows', toFile],
    ['udp:[2001:db8::1]:1', toPeer],
  ])
  assert.deepEqual(read(), { id: 'a', endWithLastWriter: true, writers, files: new Map([['file:flows', file.value]]) })
  ids.set('ovs-bridged:writer-file:file:flows', 'damaged')
  assert.deepEqual(read()?.files, new Map())
  for (const [key, value] of writerKeys('file:flows')) ids.set(key, value)
  assert.deepEqual([...(read()?.writers.keys() ?? [])], ['udp:[2001:db8::1]:1'])
  assert.deepEqual(
    [...ids].filter(([key, value]) => key.includes('file:') && value !== undefined),
    [],
  )
})
