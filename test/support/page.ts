import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'

/** Holds a page to what `make` makes of it as it is; with OVS_BRIDGED_WRITE_DOCS=1 writes it so instead. */
export function expectPage(file: URL, make: (told: string) => string): void {
  const told = existsSync(file) ? readFileSync(file, 'utf8') : ''
  const wanted = make(told)
  if (process.env['OVS_BRIDGED_WRITE_DOCS'] === '1') writeFileSync(file, wanted)
  else assert.equal(told, wanted, 'OVS_BRIDGED_WRITE_DOCS=1 scripts/check --lane unit rewrites it')
}

/** `text` with `table` between `<!-- NAME -->` and `<!-- /NAME -->`. */
export function withTable(text: string, name: string, table: string): string {
  const [open, close] = [`<!-- ${name} -->\n`, `<!-- /${name} -->\n`]
  const [begin, end] = [text.indexOf(open), text.indexOf(close)]
  if (begin < 0 || end < begin) throw new Error(`there is no place for the table of ${name}`)
  return `${text.slice(0, begin + open.length)}${table}${text.slice(end)}`
}

/** A table of Markdown. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |\n`
  return [head, head.map(() => '---'), ...rows].map(line).join('')
}
