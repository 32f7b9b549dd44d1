/** Columns of text under their heads, as wide as they need to be; no spaces at the ends of lines. */
export function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = heads.map((head, column) => Math.max(head.length, ...rows.map(row => row[column]?.length ?? 0)))
  const line = (cells: readonly string[]) =>
    `${cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd()}\n`
  return [heads, ...rows].map(line).join('')
}

const colours = { red: 31, green: 32, yellow: 33 } as const

/** `text` in a colour where `stream` is a terminal and nobody asked for none (https://no-color.org). */
export function painted(
  text: string,
  colour: keyof typeof colours,
  stream: { readonly isTTY?: boolean } = process.stdout,
  env: NodeJS.ProcessEnv = process.env,
): string {
  if (stream.isTTY !== true || (env['NO_COLOR'] ?? '') !== '') return text
  return `\x1b[${colours[colour]}m${text}\x1b[0m`
}

/** A rate as bits per second with three digits: `0`, `9.61M`. Units are decimal. */
export function bitRate(bytesPerSecond: number): string {
  let [value, unit] = [bytesPerSecond * 8, 0]
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1_000
    unit++
  }
  return `${value >= 99.95 || unit === 0 ? value.toFixed(0) : value.toPrecision(3)}${units[unit] ?? ''}`
}

const units = ['', 'k', 'M', 'G', 'T'] as const
