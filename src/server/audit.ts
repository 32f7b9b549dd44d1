/** What a request asks for, by its fields, with those of a part below the part's. */
export interface Summary {
  readonly [field: string]: string | number | boolean | Summary
}

const maxFields = 16
const maxTextChars = 64

/**
 * What a request asks for, in short: its fields that are set, texts cut, of a list of messages how many. Of texts in a list, such
 * as columns that are set, only what is before a `=`: values are nobody's but the caller's.
 */
export function summaryOf(request: unknown): Summary {
  if (typeof request !== 'object' || request === null) return {}
  const summary: { [field: string]: Summary[string] } = {}
  for (const [field, value] of Object.entries(given(request)).slice(0, maxFields)) {
    const short = shortened(value)
    if (isSet(short)) summary[field] = short
  }
  return summary
}

/** Of a `oneof` (ts-proto, oneof=unions-value) the one field that is given. */
function given(message: object): object {
  if (!('$case' in message) || !('value' in message)) return message
  return { [String(message.$case)]: message.value }
}

function isSet(short: Summary[string] | undefined): short is Summary[string] {
  if (typeof short === 'object') return Object.keys(short).length > 0
  return short !== undefined && short !== '' && short !== 0 && short !== false
}

function shortened(value: unknown): Summary[string] | undefined {
  switch (typeof value) {
    case 'string':
      return cut(value)
    case 'number':
    case 'boolean':
      return value
    case 'bigint':
      return Number(value)
    case 'object':
      if (value instanceof Uint8Array) return value.length
      return Array.isArray(value) ? listed(value) : summaryOf(value)
    default:
      return undefined
  }
}

function listed(values: readonly unknown[]): string | number {
  const first = values.slice(0, maxFields)
  const plain = first.filter(value => typeof value === 'string' || typeof value === 'number')
  if (plain.length < first.length) return values.length
  return cut(plain.map(value => String(value).replace(/=.*/s, '')).join(','))
}

function cut(text: string): string {
  return text.length > maxTextChars ? `${text.slice(0, maxTextChars - 1)}…` : text
}
