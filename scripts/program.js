/**
 * How the program is made of src/: one file for each thread and one for what they share, since Node.js takes longer to find
 * and load a file than to run what is in it (docs/adr/0027-the-program-is-few-files.md). Only koffi, which is machine
 * code, is loaded from its package.
 */
import { readdirSync, rmSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url))

/** Options of esbuild that make the program in the folder `out`. */
export function programIn(out) {
  // A thread is started by the name of its file, beside that of who starts it: all are in one folder.
  const threads = readdirSync(path.join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('worker.ts'))
    .map(name => path.join('src', name))
  return {
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
    plugins: [removeFormer],
  }
}

/** The names of shared files have a hash: those of a former program would stay. */
const removeFormer = {
  name: 'remove-former',
  setup: ({ initialOptions: { outdir }, onEnd }) => {
    onEnd(({ metafile }) => {
      if (metafile === undefined) return
      const made = new Set(Object.keys(metafile.outputs).map(name => path.resolve(root, name)))
      const there = readdirSync(outdir)
        .filter(name => /\.js(\.map)?$/.test(name))
        .map(name => path.join(outdir, name))
      for (const file of there) if (!made.has(file)) rmSync(file)
    })
  },
}
