/**
 * How OVSDB remembers what is ours. `ownership.ts`, `ownership-tap.ts` and these keys alone spell what we write into
 * `external_ids`.
 *
 * - A managed bridge carries `ovs-bridged:instance`, and `ovs-bridged:pre-exist` when it was there before us.
 * - A port of ours carries `ovs-bridged:instance` and `ovs-bridged:role`; so does a mirror.
 * - The root row carries `ovs-bridged:<instance>:next-capture-id` and `ovs-bridged:<instance>:last-transaction`.
 * - A tap's interface carries `attached-mac`, Open vSwitch's conventional key.
 * - A tap's intent stands in a QoS row of type `linux-noop`: a root row, it outlives the port while a tap is detached,
 *   and on the port it keeps ovs-vswitchd's hands off the device's qdiscs. A bond has such a row of its own; the rows of
 *   its members wait without a port.
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
