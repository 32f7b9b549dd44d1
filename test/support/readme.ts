import { readFileSync } from 'node:fs'
import { fromBinary } from '@bufbuild/protobuf'
import { type FileDescriptorProto, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt'
import { type Flag, flags, variableOf } from '../../src/flags.js'
import { table, withTable } from './page.js'

/** The checkout that the tests were compiled in. */
export const checkout = new URL('../../../', import.meta.url)

export const readmeFile = new URL('README.md', checkout)

/** `readme` with its tables as the contract and the flags have them: they stand between `<!-- NAME -->` and `<!-- /NAME -->`. */
export function withTables(readme: string): string {
  return withTable(withTable(readme, 'calls', callTable()), 'flags', flagTable())
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
