/** Who has an address or a MAC on a link: finds out that two taps have the same. */
export class AddressHolders {
  /** Taps by what they have, in the order in which they came to it. */
  readonly #holders = new Map<string, Set<string>>()
  readonly #heldBy = new Map<string, readonly string[]>()

  /** What a tap has from now on, in place of what it had. */
  set(tap: string, keys: readonly string[]): void {
    const wanted = new Set(keys)
    for (const key of this.#heldBy.get(tap) ?? []) if (!wanted.has(key)) this.#remove(key, tap)
    for (const key of wanted) {
      const holders = this.#holders.get(key) ?? new Set<string>()
      this.#holders.set(key, holders.add(tap))
    }
    if (wanted.size === 0) this.#heldBy.delete(tap)
    else this.#heldBy.set(tap, [...wanted])
  }

  /** The latest other tap that has one of these and is not one station with it. */
  rivalOf(
    tap: string,
    keys: readonly string[],
    isOneWith: (other: string) => boolean = () => false,
  ): string | undefined {
    for (const key of keys) {
      const rival = [...(this.#holders.get(key) ?? [])].findLast(holder => holder !== tap && !isOneWith(holder))
      if (rival !== undefined) return rival
    }
    return undefined
  }

  #remove(key: string, tap: string): void {
    const holders = this.#holders.get(key)
    holders?.delete(tap)
    if (holders?.size === 0) this.#holders.delete(key)
  }
}
