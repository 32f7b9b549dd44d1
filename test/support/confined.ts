import { readFileSync } from 'node:fs'
import { checkout } from './readme.js'

/** Whether daemons are confined to what their unit allows: `npm run test:all` runs the userspace lane once more that way. */
export const isConfined = process.env['OVS_BRIDGED_TEST_CONFINED'] === '1'

/** capabilities(7), by their numbers in linux/capability.h. */
const numbers = new Map([
  ['CAP_NET_ADMIN', 12],
  ['CAP_NET_RAW', 13],
])

function numberOf(name: string): number {
  const number = numbers.get(name)
  if (number === undefined) throw new Error(`what is the number of ${name}?`)
  return number
}

/** The words of a capsh(1) that runs a command with the bounding set of deploy/ovs-bridged.service. */
export function confined(): readonly string[] {
  const unit = readFileSync(new URL('deploy/ovs-bridged.service', checkout), 'utf8')
  const [, list = ''] = /^CapabilityBoundingSet=(.+)$/m.exec(unit) ?? []
  const kept = new Set(list.split(' ').map(numberOf))
  const last = Number(readFileSync('/proc/sys/kernel/cap_last_cap', 'utf8'))
  const dropped = Array.from({ length: last + 1 }, (_, number) => number).filter(number => !kept.has(number))
  return ['capsh', `--drop=${dropped.join(',')}`, '--', '-c', 'exec "$0" "$@"']
}
