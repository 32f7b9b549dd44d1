import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ColumnSetting, parseColumnSetting } from '../../src/bridge/column-setting.js'
import { schema, type Tables } from '../../src/gen/vswitch.js'
import { newTransaction, openOvsdb } from '../../src/ovsdb/index.js'
import { type PrivateOvsdbServer, startOvsdbServer } from '../support/ovsdb-server.js'

type Table = 'Bridge' | 'Port' | 'Interface'

/** Settings that are taken, by the table that they are for. */
const accepted: Readonly<Record<Table, readonly string[]>> = {
  Bridge: [
    // Booleans, in all spellings and brackets.
    ...['true', 'yes', 'on', '1', 'false', 'no', 'off', '0'].map(word => `stp_enable=${word}`),
    'stp_enable=[true]',
    'stp_enable= true ',
    'stp_enable=[ true , ]',
    'stp_enable=\ttrue',
    'stp_enable=true,',
    String.raw`stp_enable=t\r\ue`,
    // Names of columns.
    'stp-enable=true',
    'STP_Enable=true',
    'stp=true',
    'STP=true',
    'mcast=true',
    'fail=standalone',
    'OTHER-CONFIG:k=v',
    String.raw`\stp_enable=true`,
    // Optional enums.
    'fail_mode=secure',
    'fail_mode=standalone',
    'fail_mode="standalone"',
    'fail_mode=[standalone]',
    'fail_mode=[]',
    'fail_mode=[ ]',
    // Sets of an enum.
    'protocols=OpenFlow13',
    'protocols=OpenFlow10,OpenFlow13',
    'protocols=[OpenFlow14, OpenFlow10]',
    'protocols=OpenFlow10 OpenFlow15',
    'protocols=["OpenFlow10","OpenFlow11"]',
    'protocols=[]',
    // Sets of integers, and ranges.
    'flood_vlans=5',
    'flood_vlans=0',
    'flood_vlans=4095',
    'flood_vlans=1,2,3',
    'flood_vlans=1 2 3',
    'flood_vlans=1, 2,\t3',
    'flood_vlans=[1,2]',
    'flood_vlans=[1 2]',
    'flood_vlans= [ 1 , 2 ] ',
    'flood_vlans=1,2,',
    'flood_vlans=[1,2,]',
    'flood_vlans=0-5',
    'flood_vlans=7-7',
    'flood_vlans=0-5,10,20-22',
    'flood_vlans=[0-5 9]',
    'flood_vlans=0-4095',
    'flood_vlans=+5',
    'flood_vlans=007',
    'flood_vlans=+1-+3',
    'flood_vlans=-0',
    String.raw`flood_vlans=\ 5`,
    String.raw`flood_vlans=1-\ 3`,
    'flood_vlans=[]',
    // Whole maps.
    'other_config={}',
    'other_config={ }',
    'other_config=a=b',
    'other_config=a=b,c=d',
    'other_config=a=b c=d',
    'other_config={a=b,c=d}',
    'other_config={ a = b , c = d , }',
    'other_config={a=1,b=true}',
    'other_config={hwaddr="02:00:00:00:00:01"}',
    String.raw`other_config={hwaddr=02\:00\:00\:00\:00\:01}`,
    'other_config={"a b"="c, d"}',
    'other_config={a=""}',
    'other_config={""=a}',
    String.raw`other_config={a\ b=c\,d}`,
    String.raw`other_config={a="b\"c"}`,
    String.raw`other_config={a="b\\"}`,
    'other_config={a=b;c}',
    'other_config={a=b"c d"}',
    'other_config={a=ключ}',
    // One key, the value as it comes.
    'other_config:hwaddr=02:00:00:00:00:01',
    'other_config:a=b c, d',
    'other_config:a= b ',
    'other_config:a=[]',
    'other_config:a={x=y}',
    'other_config:a==b',
    'other_config:a=""',
    'other_config:a="b"',
    'other_config:a="b c"',
    'other_config:a=b"c',
    'other_config:a=b"',
    String.raw`other_config:a=b\c`,
    String.raw`other_config:a="b\nc"`,
    String.raw`other_config:a="\"\\\/\b\f\n\r\t"`,
    String.raw`other_config:a="\u00e9\u20AC"`,
    String.raw`other_config:a="\ud83d\ude00"`,
    'other_config:a="b\nc"',
    'other_config:a=b\nc',
    'other_config:a=\u00e9\u{1f600}',
    'other_config:"a b"=c',
    'other_config:"a"=b',
    'other_config:a"b=c"=d',
    String.raw`other_config:a\=b=c`,
    String.raw`other_config:a\ b=c`,
    'other_config:""=v',
    'other_config:old=new',
    'other_config:a\u00a0b=c',
    'external_ids:k=v',
    'external_ids={k=v}',
    // Plain strings.
    'datapath_type=netdev',
    'datapath_type=""',
    'datapath_type="a b"',
    String.raw`datapath_type=a\ b`,
    'datapath_type=[netdev]',
    'datapath_type=a;b',
    'datapath_type=ab"c d"e',
  ],
  Port: [
    'tag=5',
    'tag=[]',
    'tag=[5]',
    'tag=5-5',
    'trunks=10-12,100',
    'vlan_mode=dot1q-tunnel',
    'bond_updelay=-5',
    'bond_updelay=9007199254740993',
    'bond_updelay=9223372036854775807',
    'bond_updelay=-9223372036854775808',
    'bond_downdelay=[7]',
    'protected=on',
  ],
  Interface: [
    'ingress_policing_rate=0',
    'ingress_policing_rate=1000000000000',
    'ofport_request=65279',
    'cfm_remote_mpids=-3--1',
    'cfm_remote_mpids=9223372036854775805-9223372036854775806',
    'options:key=1',
  ],
}

/** Settings that are refused, by the table that they are for. */
const refused: Readonly<Record<Table, readonly string[]>> = {
  Bridge: [
    '',
    '=true',
    ':a=b',
    'stp_enable',
    'stp_enable=',
    'stp_enable =true',
    'stp_enable:true',
    'stp_enable:a=true',
    'stp_enable!=true',
    'stp_enable==true',
    'stp_enable=maybe',
    'stp_enable=TRUE',
    'stp_enable=2',
    'stp_enable=true\n',
    'stp_enable="true"',
    'stp_enable=[]',
    'stp_enable=true,false',
    'stp_enable=true true',
    'stp_enable= ',
    'stp_enable=,true',
    'stp_enable=[true',
    'stp_enable=true]',
    'stp_enable=[true]x',
    'stp_enable={true}',
    'stp_enable=\u00a0true',
    '"stp_enable"=true',
    'nonsense=1',
    'stp_enablex=true',
    'f=standalone',
    's=true',
    'datapath=netdev',
    'fail_mode=open',
    'fail_mode=Secure',
    'fail_mode=secure,standalone',
    'fail_mode=""',
    'fail_mode=a:b',
    'protocols=OpenFlow99',
    'protocols=OpenFlow10,OpenFlow10',
    'protocols=OpenFlow10;OpenFlow13',
    'flood_vlans=4096',
    'flood_vlans=-1',
    'flood_vlans=1.5',
    'flood_vlans=0x10',
    'flood_vlans=five',
    'flood_vlans="5"',
    'flood_vlans=1,,2',
    'flood_vlans=,1',
    'flood_vlans=[,]',
    'flood_vlans=1,1',
    'flood_vlans=1-3,2',
    'flood_vlans=5-3',
    'flood_vlans=1-',
    'flood_vlans=-5-3',
    'flood_vlans=1--3',
    'flood_vlans=1-3-5',
    'flood_vlans=4000-4100',
    'flood_vlans=1 - 3',
    'flood_vlans=[1][2]',
    'flood_vlans=99999999999999999999',
    'other_config=',
    'other_config=[]',
    'other_config=a',
    'other_config={a}',
    'other_config={a=}',
    'other_config={=b}',
    'other_config={a=b',
    'other_config={a=b}}',
    'other_config={a=b,a=c}',
    'other_config={a=b:c}',
    'other_config={a=[b]}',
    'other_config={a="b}',
    'other_config={a="b"c}',
    'other_config={a=b\\',
    'other_config:a',
    'other_config:a=',
    'other_config:=b',
    'other_config:a:b=c',
    'other_config:a =b',
    'other_config:a="b',
    'other_config:a="',
    'other_config:a="b"c',
    'other_config:"a=b',
    String.raw`other_config:a="\x"`,
    String.raw`other_config:a="\u12"`,
    String.raw`other_config:a="\u0000"`,
    String.raw`other_config:a="\ud83d"`,
    String.raw`other_config:a="\ud83dx"`,
    String.raw`other_config:a="\ude00"`,
    String.raw`other_config:a="b\"`,
    String.raw`other_config:a="\B"`,
    'other_config:a\\',
    'controller=nonsense',
  ],
  Port: ['tag=4096', 'tag=5-6', 'tag=1,2', 'vlan_mode=Access', 'bond_updelay=9223372036854775808', 'bond_mode=slb'],
  Interface: ['ofport_request=0', 'ofport_request=65280', 'cfm_remote_mpids=0-4096', 'options:key='],
}

const all = (of: Readonly<Record<Table, readonly string[]>>) => [
  ...of.Bridge.map(setting => ({ table: 'Bridge', setting }) as const),
  ...of.Port.map(setting => ({ table: 'Port', setting }) as const),
  ...of.Interface.map(setting => ({ table: 'Interface', setting }) as const),
]

/** A server with a bridge for each setting, of which each has something to lose. */
async function withBridges(count: number): Promise<PrivateOvsdbServer> {
  const server = await startOvsdbServer()
  const filled = ['other_config:old=1', 'flood_vlans=7', 'fail_mode=secure', 'protocols=OpenFlow12']
  await server.vsctl(
    ...Array.from({ length: count }, (_, i) => [
      ...['--', 'add-br', `br${i}`],
      ...['--', 'set', 'Bridge', `br${i}`, ...filled],
      ...['--', 'set', 'Port', `br${i}`, 'tag=3'],
    ]).flat(),
  )
  return server
}

const tables = ['Bridge', 'Port', 'Interface'] as const

/** The columns of a table that refer to no rows: rows have other uuids on each server. */
function columnsOf<T extends Table>(table: T): (Exclude<keyof Tables[T], '_uuid'> & string)[] {
  const columns = Object.entries(schema.tables[table]?.columns ?? {}).filter(([, { key }]) => key.type !== 'uuid')
  return columns.map(([name]) => name as Exclude<keyof Tables[T], '_uuid'> & string)
}

const monitor = { Bridge: columnsOf('Bridge'), Port: columnsOf('Port'), Interface: columnsOf('Interface') }

async function connect(server: PrivateOvsdbServer) {
  const client = openOvsdb({ endpoint: { kind: 'unix', path: server.socketPath }, schema, monitor })
  await client.ready(AbortSignal.timeout(10_000))
  return client
}

type Client = Awaited<ReturnType<typeof connect>>

async function set(client: Client, table: Table, name: string, { column, to }: ColumnSetting): Promise<void> {
  const row = client.replica.find(table, 'name', name)
  if (row === undefined) throw new Error(`no ${table} ${name}`)
  const transaction = newTransaction(schema)
  if (to.kind === 'whole') transaction.update(table, row._uuid, { [column]: to.value })
  else {
    const entries = new Map([[String(to.key), String(to.value)]])
    transaction.setKeys(table, row._uuid, column as 'external_ids', entries)
  }
  await client.transact(transaction, { signal: AbortSignal.timeout(10_000) })
}

/** A row with its sets and maps in order, and without its uuid. */
function contents(client: Client, table: Table, name: string): unknown {
  const { _uuid, ...columns } = client.replica.find(table, 'name', name) ?? { _uuid: undefined }
  const inOrder = (value: unknown): unknown => {
    const elements: readonly unknown[] | undefined =
      value instanceof Map ? [...value] : Array.isArray(value) ? value : undefined
    return elements === undefined ? value : [...elements].sort()
  }
  return Object.entries(columns).map(([column, value]) => [column, inOrder(value)])
}

function parse(table: Table, setting: string) {
  return parseColumnSetting(schema.tables[table]?.columns ?? {}, setting)
}

test('each setting makes of a row what ovs-vsctl makes of it', async () => {
  const cases = all(accepted)
  await using ours = await withBridges(cases.length)
  await using theirs = await withBridges(cases.length)
  await theirs.vsctl(...cases.flatMap(({ table, setting }, i) => ['--', 'set', table, `br${i}`, setting]))
  await using mine = await connect(ours)
  await using expected = await connect(theirs)
  for (const [i, { table, setting }] of cases.entries()) {
    const parsed = parse(table, setting)
    if (!parsed.ok) throw new Error(`${setting} was refused: ${parsed.reason}`)
    await set(mine, table, `br${i}`, parsed.value)
    assert.deepEqual(contents(mine, table, `br${i}`), contents(expected, table, `br${i}`), setting)
  }
})

for (const table of tables) {
  test(`what ovs-vsctl refuses of a ${table} is refused`, async () => {
    await using server = await withBridges(1)
    const judged = refused[table].map(async setting => {
      await assert.rejects(server.vsctl('set', table, 'br0', setting), `ovs-vsctl takes ${setting}`)
      const parsed = parse(table, setting)
      assert.ok(!parsed.ok, setting)
    })
    await Promise.all(judged)
  })
}

const reasons: Readonly<Record<string, string>> = {
  'stp_enable=maybe': 'stp_enable takes true or false; got "maybe"',
  'fail_mode=open': 'fail_mode takes one of standalone, secure, or []; got "open"',
  'flood_vlans=1,4096': 'flood_vlans takes up to 4096 of an integer from 0 to 4095, or []; got "4096"',
  'flood_vlans=5-3':
    'flood_vlans takes up to 4096 of an integer from 0 to 4095, or []; the range 5-3 ends before it starts',
  'other_config=a': 'other_config takes pairs of a string, = and a string, or {}; a key has no = after it',
  'stp_enable:a=b': 'stp_enable takes true or false; it is no map and has no keys',
  datapath: 'datapath may be datapath_type or datapath_version or datapath_id',
  nonsense: 'there is no column "nonsense"',
}

for (const [setting, reason] of Object.entries(reasons)) {
  test(`the refusal of ${setting} says what the column takes`, () => {
    assert.deepEqual(parse('Bridge', setting), { ok: false, reason })
  })
}

test('an endless string is quoted in part', () => {
  const endless = 'x'.repeat(10_000)
  for (const setting of [`stp_enable=${endless}`, `${endless}=true`]) {
    const parsed = parse('Bridge', setting)
    assert.ok(!parsed.ok && parsed.reason.length < 150)
  }
})

test('a NUL is refused, which no argument of a program can hold', () => {
  assert.deepEqual(parse('Bridge', 'other_config:a=b\0'), { ok: false, reason: 'holds a NUL' })
})

test('a reference to a row is refused', () => {
  assert.equal(parse('Bridge', 'netflow=0a1b2c3d-0000-4000-8000-000000000001').ok, false)
})
