import { readFileSync } from 'node:fs'
import { isRecord } from '../../src/lib/json-rpc.js'
import type { PrivateOvs } from './ovs.js'
import { checkout } from './readme.js'

/**
 * Writes what a daemon left in the database of another host, `test/recorded/NAME.json`, into one that has nothing yet but its
 * root row, where the host's ways are `otherwise`: texts of the record to what they are here.
 */
export async function restoreDatabase(
  ovs: PrivateOvs,
  name: string,
  otherwise: Readonly<Record<string, string>>,
): Promise<void> {
  const file = readFileSync(new URL(`test/recorded/${name}.json`, checkout), 'utf8')
  const here = Object.entries(otherwise).reduce(
    (text, [there, ours]) => text.replaceAll(`"${there}"`, `"${ours}"`),
    file,
  )
  const tables: unknown = JSON.parse(
    here.replaceAll(/"uuid",\s*"([\da-f-]+)"/g, (_, uuid: string) => `"named-uuid","${named(uuid)}"`),
  )
  if (!isRecord(tables)) throw new TypeError(`${name} is no database`)
  const operations = Object.entries(tables).flatMap(([table, rows]) =>
    Object.entries(isRecord(rows) ? rows : {}).map(([uuid, row]) =>
      table === 'Open_vSwitch'
        ? { op: 'update', table, where: [], row }
        : { op: 'insert', table, 'uuid-name': named(uuid), row },
    ),
  )
  await ovs.configure(...operations)
}

/** RFC 7047 §3.1, `<id>`. */
function named(uuid: string): string {
  return `row_${uuid.replaceAll('-', '_')}`
}
