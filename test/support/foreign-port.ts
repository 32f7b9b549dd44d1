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
