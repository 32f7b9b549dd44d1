import type { ColumnSchema, Uuid } from '../ovsdb/index.js'
import type { Call } from './call.js'
import { type ColumnSetting, parseColumnSetting } from './column-setting.js'
import type { OvsTransaction, Part } from './commit.js'
import type { Host } from './host.js'
import { type Bridge, getBridge, managedBridge } from './inventory.js'
import type { BridgeName } from './names.js'
import { configMarks, configOf, isOurKey } from './ownership.js'
import { invalid, type Violation } from './problem.js'

/** Of the settings of one call, and of all that stand on one bridge, which every listing of it shows. */
const maxCharacters = 65_536

/**
 * Sets columns of a managed bridge in one transaction. Each setting is what ovs-vsctl(8) takes for `set Bridge`, and is
 * noted on the bridge. Returns when ovs-vswitchd has applied them.
 *
 * Errors: `invalid`, naming `settings[i]`, for what the server's schema does not allow and for columns that the service
 * itself rests on; `not-found`; those of a commit.
 */
export async function setBridgeConfig(
  host: Host,
  name: BridgeName,
  settings: readonly string[],
  call: Call,
): Promise<Bridge> {
  await host.committer.commitApplied(configuration(host, name, parseSettings(host, settings)), call)
  return getBridge(host, name)
}

function parseSettings(host: Host, inputs: readonly string[]): ColumnSetting[] {
  if (inputs.length === 0) throw invalid([{ field: 'settings', description: 'is empty' }])
  refuseLongerThan(maxCharacters, inputs)
  const columns = host.ovsdb.schema.tables['Bridge']?.columns ?? {}
  const settings: ColumnSetting[] = []
  const violations: Violation[] = []
  for (const [index, input] of inputs.entries()) {
    const setting = parseColumnSetting(columns, input)
    const refusal = setting.ok ? refusalOf(columns[setting.value.column], setting.value) : setting.reason
    if (refusal !== undefined) violations.push({ field: `settings[${index}]`, description: refusal })
    else if (setting.ok) settings.push(setting.value)
  }
  if (violations.length > 0) throw invalid(violations)
  return settings
}

function refuseLongerThan(limit: number, texts: readonly string[]): void {
  const length = texts.reduce((sum, text) => sum + text.length, 0)
  if (length > limit)
    throw invalid([{ field: 'settings', description: `come to ${length} characters; a bridge takes ${limit}` }])
}

/** Why a setting that the schema allows is refused; undefined: it is not. */
function refusalOf(schema: ColumnSchema | undefined, { column, to }: ColumnSetting): string | undefined {
  if (schema?.mutable === false) return `${column} cannot be changed once the bridge is there`
  if (schema?.key.type === 'uuid' || schema?.value?.type === 'uuid')
    return `${column} refers to rows, which cannot be named`
  // The schema does not call datapath_version ephemeral, and it is.
  if (schema?.ephemeral || column === 'datapath_version') return `${column} is what ovs-vswitchd writes`
  if (column === 'datapath_type') return `${column} is settled when the bridge is created`
  if (to.kind === 'key' && !isKeyed(column)) return `${column} can be set as a whole only`
  if (column !== 'external_ids') return undefined
  if (to.kind === 'whole')
    return `${column} is set key by key, as ${column}:key=value: the service keeps marks of its own there`
  return isOurKey(String(to.key)) ? `${column} has marks of the service itself under such keys` : undefined
}

function isKeyed(column: string): column is 'other_config' | 'external_ids' {
  return column === 'other_config' || column === 'external_ids'
}

function configuration(host: Host, name: BridgeName, settings: readonly ColumnSetting[]): Part<void> {
  return {
    owns: [name],
    needs: [],
    // ovs-vswitchd does not look at external_ids.
    reconfigures: settings.some(({ column }) => column !== 'external_ids'),
    write: transaction => {
      const { _uuid, external_ids } = managedBridge(host, name)
      const config = noted(configOf(external_ids), settings)
      refuseLongerThan(maxCharacters, [...config].flat())
      for (const setting of settings) writeSetting(transaction, _uuid, setting)
      transaction.setKeys('Bridge', _uuid, 'external_ids', configMarks(external_ids, config))
      return () => undefined
    },
  }
}

/** `config` with the settings noted in their order. */
function noted(config: Map<string, string>, settings: readonly ColumnSetting[]): Map<string, string> {
  for (const { column, given, to } of settings) {
    if (to.kind === 'key') config.set(`${column}:${String(to.key)}`, given)
    else {
      // Of a map that is set anew no key stays as it was set before.
      for (const name of config.keys()) if (name.startsWith(`${column}:`)) config.delete(name)
      config.set(column, given)
    }
  }
  return config
}

function writeSetting(transaction: OvsTransaction, bridge: Uuid, { column, to }: ColumnSetting): void {
  if (to.kind === 'whole') transaction.update('Bridge', bridge, { [column]: to.value })
  else if (isKeyed(column)) transaction.setKeys('Bridge', bridge, column, new Map([[String(to.key), String(to.value)]]))
}
