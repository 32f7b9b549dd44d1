import { invalid } from '../bridge/problem.js'

/** The paging fields of every List request. */
export interface PageRequest {
  readonly pageSize: number
  readonly pageToken: string
}

export interface Page<T> {
  readonly items: readonly T[]
  /** Empty on the last page. */
  readonly nextPageToken: string
}

const maxPageSize = 1000

/** A client takes a message of 4 MiB. */
const maxPageBytes = 3 * 2 ** 20

/**
 * One page of `items`, ordered by name. A token holds the last name of its page, so what comes or goes between two pages
 * makes no item appear twice and hides none. Where an item may be large, `bytesOf` keeps the page within one message.
 * Throws `invalid` for a token that is none of ours.
 */
export function page<T>(
  items: Iterable<T>,
  nameOf: (item: T) => string,
  request: PageRequest,
  bytesOf: (item: T) => number = () => 0,
): Page<T> {
  const after = request.pageToken === '' ? undefined : decodeToken(request.pageToken)
  const size = request.pageSize === 0 ? maxPageSize : Math.min(request.pageSize, maxPageSize)
  const rest = Array.from(items, item => ({ name: nameOf(item), item })).filter(
    ({ name }) => after === undefined || name > after,
  )
  rest.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
  const shown = rest.slice(
    0,
    countThatFits(rest.slice(0, size), ({ item }) => bytesOf(item)),
  )
  const last = shown.at(-1)
  const more = last !== undefined && rest.length > shown.length
  return { items: shown.map(({ item }) => item), nextPageToken: more ? encodeToken(last.name) : '' }
}

/** How many of the items make a page: at least one, however large. */
function countThatFits<T>(items: readonly T[], bytesOf: (item: T) => number): number {
  let bytes = 0
  for (const [index, item] of items.entries()) {
    bytes += bytesOf(item)
    if (bytes > maxPageBytes && index > 0) return index
  }
  return items.length
}

// The version lets a later release tell its own tokens from these.
const version = 'a'

function encodeToken(name: string): string {
  return version + Buffer.from(name).toString('base64url')
}

function decodeToken(token: string): string {
  const name = Buffer.from(token.slice(version.length), 'base64url').toString()
  if (name === '' || encodeToken(name) !== token) {
    throw invalid([{ field: 'page_token', description: 'is not the next_page_token of a page before' }])
  }
  return name
}
