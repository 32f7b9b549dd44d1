import { createHash, randomBytes } from 'node:crypto'
import { KernelError } from './errors.js'
import { type MacAddress, parseMacAddress } from './names.js'

/**
 * A veth takes no alias at birth, and its maker may be killed before it gets one. So its MAC says whose it is: fe (locally
 * administered, and so high that Open vSwitch takes it last for a bridge's own), 24 bits of a hash of alias, name and rest,
 * and a rest of 16 random bits, lest two hosts have the same.
 */
export function birthMac({ alias, name }: { readonly alias: string; readonly name: string }): MacAddress {
  const mac = parseMacAddress(spell(alias, name, randomBytes(2).toString('hex')))
  if (!mac.ok) throw new KernelError({ operation: 'createVeth', kind: 'unexpected', detail: `MAC ${mac.reason}` })
  return mac.value
}

/** Whether a device was made to get this alias. */
export function isBornFor(alias: string, { name, mac }: { readonly name: string; readonly mac: string }): boolean {
  return mac === spell(alias, name, mac.replaceAll(':', '').slice(8))
}

function spell(alias: string, name: string, rest: string): string {
  const hash = createHash('sha256').update(`${alias}\0${name}\0${rest}`).digest('hex').slice(0, 6)
  return `fe${hash}${rest}`.match(/../g)?.join(':') ?? ''
}
