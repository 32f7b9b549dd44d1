/**
 * Makes what is run out of src/: one file for each thread and one for what they share, since Node.js takes longer to find
 * and load a file than to run what is in it (docs/adr/0027-the-program-is-few-files.md). Only koffi, which is machine
 * code, is loaded from its package. The licences of all others that are in it are written beside it.
 * Usage: node scripts/bundle.js FOLDER
 */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const [out] = process.argv.slice(2)
if (out === undefined) {
  console.error('usage: bundle.js FOLDER')
  process.exit(2)
}

const root = fileURLToPath(new URL('..', import.meta.url))

// The names of shared files have a hash: those of a former program would stay.
for (const name of existsSync(out) ? readdirSync(out) : []) if (/\.js(\.map)?$/.test(name)) rmSync(path.join(out, name))

// A thread is started by the name of its file, beside that of who starts it: all are in one folder.
const threads = readdirSync(path.join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter(name => name.endsWith('worker.ts'))
  .map(name => path.join('src', name))
const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: ['src/main.ts', ...threads],
  entryNames: '[name]',
  outdir: path.resolve(out),
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  external: ['koffi'],
  // Packages in CommonJS ask for modules of Node.js.
  banner: {
    js: "import { createRequire as requireFrom } from 'node:module'\nconst require = requireFrom(import.meta.url)",
  },
  sourcemap: true,
  sourcesContent: false,
  metafile: true,
  logLevel: 'warning',
})

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
