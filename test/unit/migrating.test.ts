import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fromBinary } from '@bufbuild/protobuf'
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt'
import { flags } from '../../src/flags.js'
import { checkout } from '../support/readme.js'

/** What minimega's Go package `bridge` exports: methods and fields by their type, and what belongs to none. */
const exported: Readonly<Record<string, string>> = {
  '': `CheckOVS DestroyBridge DestroyTap NewBridges DefaultSnapLen ErrNoNetflow ExternalDependencies Bridge BridgeInfo
    CaptureConfig QosOption QosType Tap TunnelType TunnelVXLAN TunnelGRE`,
  Bridge: `AddTap AddTrunk AddTunnel Capture CaptureTap Config CreateContainerTap CreateHostTap CreateMirror CreateTap
    CreateTapName DestroyMirror DestroyNetflow DestroyTap GetNetflow GetQos NewNetflow ReapTaps RemoveQos RemoveTap
    RemoveTrunk RemoveTunnel SetNetflowTimeout StopCapture UpdateQos AddBond DeleteBond SetTapQinQ Name`,
  Bridges: 'BandwidthStats Destroy DestroyBridge FindTap Get HostTaps Info Names ReapTaps Default',
  BridgeInfo: 'Name PreExist VLANs Trunks Tunnels Mirrors Config',
  CaptureConfig: 'Filter SnapLen',
  Tap: 'BandwidthStats Name Bridge VLAN MAC Host Container Defunct IP4 IP6',
  TunnelType: 'String',
}

/** The names in the first two cells of each row, without arguments. */
const rows = readFileSync(new URL('docs/migrating.md', checkout), 'utf8')
  .split('\n')
  .filter(line => line.startsWith('| ') && line.includes('`'))
  .map(line => line.split(' | ').map(namesIn))

function namesIn(cell: string): readonly string[] {
  return Array.from(cell.matchAll(/`(-{0,2}[\w.-]+)[^`]*`/g), ([, name = '']) => name)
}

/** Whether a cell has `Type.name`, or `name` beside others of the type. */
function tells(cell: readonly string[], type: string, name: string): boolean {
  if (type === '' || cell.includes(`${type}.${name}`)) return cell.includes(type === '' ? name : `${type}.${name}`)
  return cell.includes(name) && cell.some(other => other === type || other.startsWith(`${type}.`))
}

test('docs/migrating.md has a row for everything that the former package exports', () => {
  const wanting = Object.entries(exported).flatMap(([type, names]) =>
    names
      .split(/\s+/)
      .filter(name => !rows.some(([former = []]) => tells(former, type, name)))
      .map(name => `${type}.${name}`),
  )
  assert.deepEqual(wanting, [])
})

test('docs/migrating.md points to calls, fields, values and flags that are there', () => {
  const set = fromBinary(FileDescriptorSetSchema, readFileSync(new URL('src/gen/descriptors.binpb', checkout)))
  const files = set.file.filter(file => file.package === 'ovs.bridge.v1')
  const known = new Set([
    ...files.flatMap(file => file.service.flatMap(({ method }) => method.map(({ name }) => name))),
    ...files.flatMap(file => file.messageType.flatMap(({ name, field }) => [name, ...field.map(of => of.name)])),
    ...files.flatMap(file => file.messageType.flatMap(({ name, field }) => field.map(of => `${name}.${of.name}`))),
    ...files.flatMap(file => file.enumType.flatMap(({ value }) => value.map(({ name }) => name))),
    ...Object.values(flags).map(({ name }) => `--${name}`),
  ])
  const named = rows.flatMap(([, here = []]) => here)
  assert(named.length > 60)
  const lost = named.filter(name => !known.has(name) && !known.has(`ERROR_REASON_${name}`))
  assert.deepEqual(lost, [])
})
