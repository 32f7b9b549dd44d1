import { readFileSync } from 'node:fs'
import { fromBinary } from '@bufbuild/protobuf'
import { type FileDescriptorProto, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt'
import { type Flag, flags, variableOf } from '../../src/flags.js'

/** The checkout that the tests were compiled in. */
export const checkout = new URL('../../../', import.meta.url)

export const readmeFile = new URL('README.md', checkout)

/** `readme` with its tables as the contract and the flags have them: they stand between `<!-- NAME -->` and `<!-- /NAME -->`. */
export function withTables(readme: string): string {
  return withTable(withTable(readme, 'calls', callTable()), 'flags', flagTable())
}

/** `text` with `table` between `<!-- NAME -->` and `<!-- /NAME -->`. */
export function withTable(text: string, name: string, table: string): string {
  const [open, close] = [`<!-- ${name} -->\n`, `<!-- /${name} -->\n`]
  const [begin, end] = [text.indexOf(open), text.indexOf(close)]
  if (begin < 0 || end < begin) throw new Error(`there is no place for the table of ${name}`)
  return `${text.slice(0, begin + open.length)}${table}${text.slice(end)}`
}

function callTable(): string {
  const rows = methods().map(({ name, streams, comment }) => [
    `\`${name}\``,
    `${streams ? 'Stream. ' : ''}${firstSentence(comment)}`,
  ])
  return table(['Call', 'What it does'], rows)
}

function flagTable(): string {
  const rows = Object.values<Flag>(flags).map(flag => [
    `\`--${flag.name}${flag.value === undefined ? '' : ` <${flag.value}>`}\``,
    `\`${variableOf(flag)}\``,
    flag.fallback === '' ? '' : `\`${flag.fallback}\``,
    flag.description,
  ])
  return table(['Flag', 'Variable', 'Default', 'Meaning'], rows)
}

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |\n`
  return [head, head.map(() => '---'), ...rows].map(line).join('')
}

interface Method {
  readonly name: string
  readonly streams: boolean
  readonly comment: string
}

/** FileDescriptorProto.service and ServiceDescriptorProto.method, by their numbers in descriptor.proto. */
const [serviceField, methodField] = [6, 2]

/** The methods of the service, in the order of service.proto, each with the comment before it. */
export function methods(): readonly Method[] {
  const file = serviceFile()
  const comments = new Map(
    file.sourceCodeInfo?.location.map(({ path, leadingComments }) => [path.join('.'), leadingComments]),
  )
  const [service] = file.service
  if (service === undefined) throw new Error('service.proto has no service')
  return service.method.map(({ name, serverStreaming }, index) => ({
    name,
    streams: serverStreaming,
    comment: comments.get(`${serviceField}.0.${methodField}.${index}`) ?? '',
  }))
}

function serviceFile(): FileDescriptorProto {
  const set = fromBinary(FileDescriptorSetSchema, readFileSync(new URL('src/gen/descriptors.binpb', checkout)))
  const file = set.file.find(({ name }) => name === 'ovs/bridge/v1/service.proto')
  if (file === undefined) throw new Error('the descriptors lack service.proto')
  return file
}

function firstSentence(comment: string): string {
  const text = comment.trim().replace(/\s+/g, ' ')
  return /^.*?\.(?= |$)/.exec(text)?.[0] ?? text
}

/** The shell commands of the fenced blocks under the heading `title`, as one script. */
export function shellOf(readme: string, title: string): string {
  const [, section = ''] = readme.split(`\n## ${title}\n`)
  const body = section.split('\n## ')[0] ?? ''
  return [...body.matchAll(/^```sh\n([^]*?)^```$/gm)].map(([, block = '']) => block).join('')
}
