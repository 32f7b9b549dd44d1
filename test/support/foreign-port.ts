/**
 * Operations of one transaction in which another program puts a port on a bridge, with `columns` of its own: a port of
 * that name's device, or of none.
 */
export function insertPort(
  bridge: string,
  name: string,
  columns: Readonly<Record<string, unknown>> = {},
): readonly object[] {
  return [
    { op: 'insert', table: 'Interface', 'uuid-name': 'interface', row: { name } },
    {
      op: 'insert',
      table: 'Port',
      'uuid-name': 'port',
      row: { name, interfaces: ['named-uuid', 'interface'], ...columns },
    },
    {
      op: 'mutate',
      table: 'Bridge',
      where: [['name', '==', bridge]],
      mutations: [['ports', 'insert', ['named-uuid', 'port']]],
    },
  ]
}

/** A row as the database has it; undefined, where there is none, fails the transaction. */
type Row = Readonly<Record<string, unknown>> | undefined

/** The operation in which another program takes a port off its bridge. */
export function removePort(port: Row): object {
  return { op: 'mutate', table: 'Bridge', where: [], mutations: [['ports', 'delete', port?.['_uuid']]] }
}

/** Operations of one transaction in which another program takes away a tap's record, which its port refers to. */
export function removeRecord(port: Row): readonly object[] {
  return [
    { op: 'update', table: 'Port', where: [['_uuid', '==', port?.['_uuid']]], row: { qos: ['set', []] } },
    { op: 'delete', table: 'QoS', where: [['_uuid', '==', port?.['qos']]] },
  ]
}
