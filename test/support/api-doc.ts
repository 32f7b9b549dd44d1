import { readFileSync } from 'node:fs'
import { fromBinary } from '@bufbuild/protobuf'
import {
  type DescriptorProto,
  type EnumDescriptorProto,
  type FieldDescriptorProto,
  type FileDescriptorProto,
  FileDescriptorSetSchema,
  FieldDescriptorProto_Label as Label,
  FieldDescriptorProto_Type as Type,
} from '@bufbuild/protobuf/wkt'
import { table as tableOf } from './page.js'
import { checkout } from './readme.js'

export const apiFile = new URL('docs/api.md', checkout)

/** Numbers of fields in descriptor.proto, of which the paths of comments are made. */
const inFile = { message: 4, enum: 5, service: 6 } as const
const [fieldOfMessage, methodOfService, valueOfEnum] = [2, 2, 2]

/** The contract as a page: calls in their order, then the messages and enums of each file, with their comments. */
export function apiPage(): string {
  const set = fromBinary(FileDescriptorSetSchema, readFileSync(new URL('src/gen/descriptors.binpb', checkout)))
  const files = set.file.filter(({ name }) => name.startsWith('ovs/'))
  const head = `# API

Made of the comments in [proto/ovs/bridge/v1](../proto/ovs/bridge/v1). \`OVS_BRIDGED_WRITE_DOCS=1 scripts/check --lane unit\`
writes it anew.
`
  return [head, ...files.map(calls), ...files.map(nouns)].filter(part => part !== '').join('\n')
}

/** What stands before the thing at a path, as Markdown: one line, for a cell of a table or a paragraph of its own. */
type CommentAt = (...path: readonly number[]) => string

function commentsOf(file: FileDescriptorProto): CommentAt {
  const locations = file.sourceCodeInfo?.location ?? []
  const comments = new Map(locations.map(({ path, leadingComments }) => [path.join('.'), leadingComments]))
  return (...path) => (comments.get(path.join('.')) ?? '').trim().replace(/\s+/g, ' ').replace(/[<*]/g, '\\$&')
}

function calls(file: FileDescriptorProto): string {
  const comment = commentsOf(file)
  const services = file.service.map((service, at) => {
    const rows = service.method.map(({ name, inputType, outputType, serverStreaming }, index) => [
      `\`${name}\``,
      linked(inputType),
      `${serverStreaming ? 'stream of ' : ''}${linked(outputType)}`,
      comment(inFile.service, at, methodOfService, index),
    ])
    const table = tableOf(['Call', 'Takes', 'Returns', 'What it does'], rows)
    return `## ${service.name}\n\n${comment(inFile.service, at)}\n\n${table}`
  })
  return services.join('\n')
}

function nouns(file: FileDescriptorProto): string {
  const comment = commentsOf(file)
  const messages = file.messageType.map((message, at) => messageSection(message, at, comment))
  const enums = file.enumType.map((type, at) => enumSection(type, at, comment))
  const name = file.name.slice(file.name.lastIndexOf('/') + 1)
  return messages.length + enums.length === 0 ? '' : [`## ${name}\n`, ...messages, ...enums].join('\n')
}

function messageSection(message: DescriptorProto, at: number, comment: CommentAt): string {
  const rows = message.field.map((field, index) => [
    `\`${field.name}\``,
    typeOf(field, message),
    comment(inFile.message, at, fieldOfMessage, index),
  ])
  const table = rows.length === 0 ? '' : `\n${tableOf(['Field', 'Type', 'Meaning'], rows)}`
  return `### ${message.name}\n\n${comment(inFile.message, at)}\n${table}`
}

function enumSection(type: EnumDescriptorProto, at: number, comment: CommentAt): string {
  const rows = type.value.map(({ name, number }, index) => [
    `\`${name}\``,
    String(number),
    comment(inFile.enum, at, valueOfEnum, index),
  ])
  return `### ${type.name}\n\n${comment(inFile.enum, at)}\n\n${tableOf(['Value', 'Number', 'Meaning'], rows)}`
}

function typeOf(field: FieldDescriptorProto, message: DescriptorProto): string {
  const entry = message.nestedType.find(({ name, options }) => options?.mapEntry && field.typeName.endsWith(`.${name}`))
  if (entry !== undefined) return `map of ${entry.field.map(part => bare(part)).join(' to ')}`
  const oneof = field.proto3Optional ? undefined : message.oneofDecl[oneofIndexOf(field)]
  const before = field.label === Label.REPEATED ? 'repeated ' : field.proto3Optional ? 'optional ' : ''
  return `${before}${bare(field)}${oneof === undefined ? '' : `, one of ${oneof.name}`}`
}

/** -1: of none. An index that was not set reads as 0. */
function oneofIndexOf(field: FieldDescriptorProto): number {
  return Object.hasOwn(field, 'oneofIndex') ? field.oneofIndex : -1
}

function bare(field: FieldDescriptorProto): string {
  return field.typeName === '' ? (Type[field.type] ?? '').toLowerCase() : linked(field.typeName)
}

/** Our own types link to their sections; others are told by their full names. */
function linked(typeName: string): string {
  const own = /^\.ovs\.bridge\.v1\.(\w+)$/.exec(typeName)?.[1]
  return own === undefined ? typeName.slice(1) : `[${own}](#${own.toLowerCase()})`
}
