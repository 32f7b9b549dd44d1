/**
 * Makes the program in a folder, and beside it the licences of all packages that are in it.
 * Usage: node scripts/bundle.js FOLDER
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { build } from 'esbuild'
import { programIn, root } from './program.js'

const [out] = process.argv.slice(2)
if (out === undefined) {
  console.error('usage: bundle.js FOLDER')
  process.exit(2)
}

const { metafile } = await build(programIn(out))

const packages = new Map()
for (const file of Object.keys(metafile.inputs)) {
  const [folder] = /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file) ?? []
  if (folder !== undefined) packages.set(folder, [...(packages.get(folder) ?? []), file])
}
const chapters = [...packages].map(([folder, files]) => {
  const { name, version, license } = JSON.parse(read(folder, 'package.json'))
  return `# ${name} ${version} ${license}\n\n${noticeOf(folder, files)}\n`
})
writeFileSync(path.resolve(out, 'third-party.txt'), chapters.sort().join('\n'))

/** What a package asks to be passed on with it: its files of that purpose, or what its sources begin with. */
function noticeOf(folder, files) {
  const names = readdirSync(path.join(root, folder)).filter(name => /^(licen[cs]e|notice|copying)/i.test(name))
  const texts = names.map(name => read(folder, name))
  const beginnings = names.length > 0 ? [] : files.map(file => /^(?:\/\/.*\n)*/.exec(read(file))?.[0] ?? '')
  const notice = [...texts, ...new Set(beginnings)].join('\n')
  if (!/copyright/i.test(notice)) throw new Error(`no notice is found in ${folder}`)
  return notice
}

function read(...names) {
  return readFileSync(path.join(root, ...names), 'utf8')
}
