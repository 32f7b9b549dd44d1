import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { roles } from '../../src/server/door.js'
import { roleOfMethod } from '../../src/server/role.js'
import { mainProgram } from '../support/command.js'
import { expectPage, table, withTable } from '../support/page.js'
import { checkout, methods } from '../support/readme.js'

function roleTable(): string {
  const names = (role: string) =>
    methods()
      .filter(({ name }) => roleOfMethod(`/ovs.bridge.v1.BridgeService/${name}`) === role)
      .map(({ name }) => name)
  return table(
    ['Role', 'Calls, beside those of the roles before it'],
    roles.map(role => [role, names(role).join(', ')]),
  )
}

interface Locked {
  readonly version: string
  readonly license?: string
  readonly dev?: boolean
}

/** The packages that the program carries, as `name version`: scripts/bundle.js writes what they ask to be passed on with them. */
function carried(): Set<string> {
  const notices = readFileSync(new URL('third-party.txt', pathToFileURL(mainProgram)), 'utf8')
  return new Set(Array.from(notices.matchAll(/^# (\S+ \d\S*) /gm), ([, name = '']) => name))
}

function licenceTable(): string {
  const inProgram = carried()
  const lock = JSON.parse(readFileSync(new URL('package-lock.json', checkout), 'utf8')) as {
    readonly packages: Readonly<Record<string, Locked>>
  }
  const rows = Object.entries(lock.packages).flatMap(([path, { version, license, dev }]) => {
    const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)
    if (path === '' || (dev === true && !inProgram.delete(`${name} ${version}`))) return []
    assert(license !== undefined, `${path} has no licence`)
    return [[name, version, license]]
  })
  assert.deepEqual([...inProgram], [], 'what the program carries is in the lock')
  return table(['Package', 'Version', 'Licence'], rows)
}

for (const [file, name, make] of [
  ['docs/security.md', 'roles', roleTable],
  ['docs/licences.md', 'licences', licenceTable],
] as const) {
  test(`${file} has the table of ${name} as it is`, () => {
    expectPage(new URL(file, checkout), text => withTable(text, name, make()))
  })
}

test('every licence is one that lets the daemon be given on', () => {
  const lines = licenceTable().split('\n').slice(2).filter(Boolean)
  for (const line of lines) assert.match(line, /\| \(?(?:Apache-2\.0|MIT|ISC|BSD-3-Clause)(?: AND BSD-3-Clause\))? \|$/)
})
