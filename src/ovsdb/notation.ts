import type { Brand } from '../lib/brand.js'

/** The identity of a row, in lower case (RFC 7047 §3.1, `<uuid>`). */
export type Uuid = Brand<string, 'Uuid'>

/** A row that the same transaction inserts (RFC 7047 §5.1, `<named-uuid>`). Only {@link Transaction.insert} makes one. */
export interface NamedUuid {
  readonly namedUuid: string
}

/** RFC 7047 §5.1, `<atom>`. An integer beyond 2^53 is a bigint, any other a number. A uuid is a {@link Uuid} or a {@link NamedUuid}. */
export type Atom = string | number | bigint | boolean | NamedUuid

/** RFC 7047 §5.1, `<value>`: an atom, an optional atom, a set, or a map. */
export type Value = Atom | undefined | readonly Atom[] | ReadonlyMap<Atom, Atom>
