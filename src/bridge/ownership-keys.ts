/**
 * How OVSDB remembers what is ours: `ownership.ts`, `ownership-tap.ts` and these keys alone spell what we write into
 * `external_ids`. docs/external-ids.md tells what stands where.
 */
export const prefix = 'ovs-bridged:'
export const instanceKey = `${prefix}instance`
export const formatKey = `${prefix}format`
export const preExistKey = `${prefix}pre-exist`
export const roleKey = `${prefix}role`
export const tapKey = `${prefix}tap`
export const idKey = `${prefix}id`
export const stateKey = `${prefix}state`
export const addressesKey = `${prefix}addresses`
export const configPrefix = `${prefix}config:`
export const writerPrefix = `${prefix}writer:`
export const writerFilePrefix = `${prefix}writer-file:`
export const lastWriterKey = `${prefix}end-with-last-writer`

/** Version of the keys and their values. */
export const format = '1'

export type ExternalIds = ReadonlyMap<string, string>
