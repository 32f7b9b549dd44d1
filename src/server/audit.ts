const maxFields = 16
const maxTextChars = 64

/** What a request asks for, in short: its plain fields that are set, and of those with parts how many they have. */
export function summaryOf(request: unknown): Readonly<Record<string, string | number | boolean>> {
  if (typeof request !== 'object' || request === null) return {}
  const summary: Record<string, string | number | boolean> = {}
  for (const [field, value] of Object.entries(request).slice(0, maxFields)) {
    const short = shortened(value)
    if (short !== undefined && short !== '' && short !== 0 && short !== false) summary[field] = short
  }
  return summary
}

function shortened(value: unknown): string | number | boolean | undefined {
  switch (typeof value) {
    case 'string':
      return value.length > maxTextChars ? `${value.slice(0, maxTextChars - 1)}…` : value
    case 'number':
    case 'boolean':
      return value
    case 'bigint':
      return Number(value)
    case 'object':
      if (Array.isArray(value)) return value.length
      if (value instanceof Uint8Array) return value.length
      return value === null ? undefined : Object.keys(value).length
    default:
      return undefined
  }
}
