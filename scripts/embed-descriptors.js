// Writes src/gen/descriptors.ts: the image that `buf build` made, as a string, so that the built service finds it wherever
// it is installed. Comments stay for our own files only: `grpcurl describe` prints them.
// Usage: node scripts/embed-descriptors.js src/gen/descriptors.binpb
import { readFileSync, writeFileSync } from 'node:fs'
import { fromBinary, toBinary } from '@bufbuild/protobuf'
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt'

const [image] = process.argv.slice(2)
if (image === undefined) {
  console.error('usage: embed-descriptors.js IMAGE')
  process.exit(2)
}

const set = fromBinary(FileDescriptorSetSchema, readFileSync(image))
for (const file of set.file) {
  // What buf adds to say where it found a file.
  delete file.$unknown
  if (!file.name.startsWith('ovs/')) file.sourceCodeInfo = undefined
}
const base64 = Buffer.from(toBinary(FileDescriptorSetSchema, set)).toString('base64')
const lines = base64.match(/.{1,116}/g) ?? []

writeFileSync(
  new URL('../src/gen/descriptors.ts', import.meta.url),
  `// Made by scripts/embed-descriptors.js from the image of \`buf build\`. Do not edit.

/** A serialised google.protobuf.FileDescriptorSet, in base64. */
export const descriptors =
${lines.map(line => `  '${line}'`).join(' +\n')}
`,
)
