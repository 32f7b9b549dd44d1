import type { IpAddress, MacAddress, VlanId } from './names.js'

/** An address that an endpoint wants. */
export interface Wanted {
  /** Name of the tap. */
  readonly tap: string
  readonly ip: IpAddress
  readonly mac: MacAddress
  readonly tag: VlanId | undefined
}

interface Probe extends Wanted {
  readonly dueMs: number
}

/** RFC 4861 §10, RETRANS_TIMER: so long a node waits whether somebody objects (RFC 4862 §5.4). */
const objectionMs = 1_000

/** So long after its request a client takes an answer (RFC 2131 §4.1 has it ask again after 64 s at most). */
const answerMs = 64_000

/** As many probes, and as many requests, of one tap are waited for at a time. */
const maxPerTap = 16

/**
 * What endpoints have asked for and not got yet: addresses that they probe for, and leases. Time is an argument.
 * A `link` is where two stations of one address would meet: a VLAN of a bridge.
 */
export class AddressWaits {
  /** By link and address, by tap: an address that two probe for at a time is nobody's. */
  readonly #probes = new Map<string, Map<string, Probe>>()
  readonly #probesOf = new Map<string, number>()
  /** By tap, by client and transaction: when it was asked. The oldest first. */
  readonly #requests = new Map<string, Map<string, number>>()

  /** An endpoint probes for an address. */
  probe(link: string, wanted: Wanted, nowMs: number): void {
    const key = probeKey(link, wanted.ip)
    const probers = this.#probes.get(key) ?? new Map<string, Probe>()
    const count = this.#probesOf.get(wanted.tap) ?? 0
    if (!probers.has(wanted.tap)) {
      if (count >= maxPerTap) return
      this.#probesOf.set(wanted.tap, count + 1)
    }
    this.#probes.set(key, probers)
    probers.set(wanted.tap, { ...wanted, dueMs: nowMs + objectionMs })
  }

  /** Somebody other than `mac` is said to have the address: whoever probed for it does not get it. */
  object(link: string, ip: IpAddress, mac: MacAddress): void {
    const key = probeKey(link, ip)
    for (const probe of this.#probes.get(key)?.values() ?? []) if (probe.mac !== mac) this.#forget(key, probe)
  }

  /** The tap has the address already, or is gone: its probe need not be waited for. */
  settle(link: string, { tap, ip }: Pick<Wanted, 'tap' | 'ip'>): void {
    const key = probeKey(link, ip)
    const probe = this.#probes.get(key)?.get(tap)
    if (probe !== undefined) this.#forget(key, probe)
  }

  /** When the next probe has waited long enough; undefined: there is none. */
  get nextDueMs(): number | undefined {
    let next: number | undefined
    for (const probers of this.#probes.values()) {
      for (const { dueMs } of probers.values()) next = Math.min(next ?? dueMs, dueMs)
    }
    return next
  }

  /** The addresses to which nobody has objected by now; each is told once. */
  takeDue(nowMs: number): readonly Wanted[] {
    const granted: Wanted[] = []
    for (const [key, probers] of [...this.#probes]) {
      const all = [...probers.values()]
      if (!all.every(({ dueMs }) => dueMs <= nowMs)) continue
      for (const probe of all) this.#forget(key, probe)
      if (all.length === 1) granted.push(...all)
    }
    return granted
  }

  /** A client behind the tap asks for a lease. */
  request(tap: string, mac: MacAddress, transaction: number, nowMs: number): void {
    const requests = this.#requests.get(tap) ?? new Map<string, number>()
    this.#requests.set(tap, requests)
    const key = requestKey(mac, transaction)
    requests.delete(key)
    requests.set(key, nowMs)
    const [oldest] = requests.keys()
    if (requests.size > maxPerTap && oldest !== undefined) requests.delete(oldest)
  }

  /** Whether a lease answers what a client behind the tap has asked for. */
  isAnswer(tap: string, mac: MacAddress, transaction: number, nowMs: number): boolean {
    const askedMs = this.#requests.get(tap)?.get(requestKey(mac, transaction))
    return askedMs !== undefined && nowMs - askedMs <= answerMs
  }

  /** Forgets what a tap has asked for. */
  drop(tap: string): void {
    this.#requests.delete(tap)
    if (!this.#probesOf.has(tap)) return
    for (const [key, probers] of [...this.#probes]) {
      const probe = probers.get(tap)
      if (probe !== undefined) this.#forget(key, probe)
    }
  }

  #forget(key: string, { tap }: Probe): void {
    const probers = this.#probes.get(key)
    probers?.delete(tap)
    if (probers?.size === 0) this.#probes.delete(key)
    const left = (this.#probesOf.get(tap) ?? 1) - 1
    if (left === 0) this.#probesOf.delete(tap)
    else this.#probesOf.set(tap, left)
  }
}

function probeKey(link: string, ip: IpAddress): string {
  return `${link} ${ip}`
}

function requestKey(mac: MacAddress, transaction: number): string {
  return `${mac} ${transaction}`
}
