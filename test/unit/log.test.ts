import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { test } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { quoted } from '../support/command.js'
import { logOf } from '../support/log.js'
import { until, within } from '../support/until.js'

const log = JSON.stringify(new URL('../../src/log/index.js', import.meta.url).href)

/** Logs 10,000 lines, says so, and logs another when it is told to go on. */
const talker = `
import { createLog, tellEnd } from ${log}
const log = createLog('info')
tellEnd(log)
for (let i = 0; i < 10_000; i++) log.info({ i, of: 'x'.repeat(300) }, 'line')
process.stdout.write('logged')
process.stdin.once('data', () => {
  log.info('after')
  process.stdin.destroy()
})
`

function start(program: string, stderr: 'pipe' | number) {
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['pipe', 'pipe', stderr] })
  return { child, ended: once(child, 'close') }
}

/** Bytes that were there; undefined: none yet, 0: nobody writes any more. */
function take(fd: number, into: Buffer): number | undefined {
  try {
    return readSync(fd, into)
  } catch {
    return undefined
  }
}

/** A named pipe, and its reader, who has not read yet. */
function namedPipe() {
  const directory = mkdtempSync(join(tmpdir(), 'log-'))
  const path = join(directory, 'pipe')
  execFileSync('mkfifo', [path])
  const open = () => openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const reading = open()
  return {
    reading,
    open,
    writing: openSync(path, constants.O_WRONLY),
    read: (fd = reading) => new Socket({ fd, readable: true, writable: false }),
    /** All that comes until nobody writes any more, no faster than that. */
    readSlowly: async (bytes: number, everyMs: number) => {
      const piece = Buffer.alloc(bytes)
      for (let said = ''; ; await wait(everyMs)) {
        const got = take(reading, piece)
        if (got === 0 && said !== '') return said
        if (got !== undefined) said += piece.toString('latin1', 0, got)
      }
    },
    [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
  }
}

async function isNotHeldUp(child: ReturnType<typeof start>['child'], ended: Promise<unknown>, read: () => Readable) {
  assert(child.stdin && child.stdout)
  await within('all is logged', 20_000, once(child.stdout, 'data'))
  let said = ''
  read()
    .setEncoding('utf8')
    .on('data', (text: string) => (said += text))
  await until('what was lost is told', () => said.includes('"lines lost"'))
  child.stdin.write('go on')
  await ended
  await until('the last line', () => said.includes('"after"'))
  const lines = logOf(said)
  const told = lines.filter(({ msg }) => msg === 'line')
  const lost = lines.find(({ msg }) => msg === 'lines lost')
  assert.deepEqual(
    told.map(({ i }) => i),
    told.map((_, place) => place),
  )
  assert(told.length > 1_000, `${told.length} lines`)
  assert.equal(told.length + Number(lost?.['lost']), 10_000)
}

test('who reads the log on a socket and is stuck holds nothing up, and learns how much was lost', async () => {
  const { child, ended } = start(talker, 'pipe')
  await isNotHeldUp(child, ended, () => {
    assert(child.stderr)
    return child.stderr
  })
})

test('who reads it from a pipe neither', async () => {
  using pipe = namedPipe()
  const { child, ended } = start(talker, pipe.writing)
  closeSync(pipe.writing)
  await isNotHeldUp(child, ended, () => pipe.read())
})

test('nor a terminal that nobody reads', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'log-'))
  const [program, said] = [join(directory, 'talker.mjs'), join(directory, 'said')]
  writeFileSync(program, talker)
  const line = `exec ${quoted(process.execPath, program)} > ${quoted(said)}`
  const child = spawn('script', ['--quiet', '--command', line, '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'] })
  await until('all is logged', () => existsSync(said) && readFileSync(said, 'utf8') === 'logged')
  const ended = once(child, 'close')
  child.kill('SIGKILL')
  child.stdout.destroy()
  await ended
  rmSync(directory, { recursive: true })
})

test('who leaves the pipe and comes back reads on', async () => {
  using pipe = namedPipe()
  const { child, ended } = start(talker, pipe.writing)
  closeSync(pipe.writing)
  closeSync(pipe.reading)
  await isNotHeldUp(child, ended, () => pipe.read(pipe.open()))
})

/** Logs 10,000 lines and crashes. */
const crasher = talker.replace(/process\.stdout[^]*/, `throw new Error('boom')`)

test('who reads it slowly learns of a crash, and how much was lost before', async () => {
  using pipe = namedPipe()
  const { child, ended } = start(crasher, pipe.writing)
  closeSync(pipe.writing)
  const stopped = once(child, 'exit')
  const reading = pipe.readSlowly(4_096, 50)
  const startedMs = Date.now()
  assert.deepEqual(await stopped, [1, null])
  const lines = logOf(await reading)
  await ended
  assert.match(JSON.stringify(lines.at(-1)), /"level":"fatal".*"boom"/)
  const told = lines.filter(({ msg }) => msg === 'line').length
  const lost = lines.reduce((sum, line) => sum + Number(line['lost'] ?? 0), 0)
  assert.equal(told + lost, 10_000)
  assert(Date.now() - startedMs < 9_000, `${Date.now() - startedMs} ms`)
})

test('a log nobody reads any more is written no further', async () => {
  const { child, ended } = start(talker, 'pipe')
  assert(child.stdout && child.stdin && child.stderr)
  child.stderr.destroy()
  await within('all is logged', 20_000, once(child.stdout, 'data'))
  child.stdin.write('go on')
  assert.deepEqual(await ended, [0, null])
})

test('a file has every line', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'log-'))
  const file = openSync(join(directory, 'log'), 'a')
  const { child, ended } = start(talker, file)
  closeSync(file)
  assert(child.stdin)
  child.stdin.write('go on')
  await ended
  assert.equal(logOf(readFileSync(join(directory, 'log'), 'utf8')).length, 10_001)
  rmSync(directory, { recursive: true })
})

test('nothing in the log is more than ASCII, whatever callers call things', async () => {
  const name = `\u001b[2J\u009b2J\u202e\u{1f600}\ud800"\n\u2028é`
  const program = `import { createLog } from ${log}; createLog('info').info({ name: ${JSON.stringify(name)} }, 'call')`
  const { child, ended } = start(program, 'pipe')
  let said = ''
  child.stderr?.setEncoding('latin1').on('data', (text: string) => (said += text))
  await ended
  assert.match(said, /^[\x20-\x7e]+\n$/)
  assert.equal(logOf(said)[0]?.['name'], name)
})

/** Logs a thousand lines at once, and then tells how often it has written: proc(5), `/proc/pid/io`. */
const burst = `
import { readFileSync } from 'node:fs'
import { createLog } from ${log}
const writes = () => Number(/syscw: (\\d+)/.exec(readFileSync('/proc/self/io', 'latin1'))[1])
const log = createLog('info')
const before = writes()
for (let i = 0; i < 1_000; i++) log.info({ i }, 'line')
setImmediate(() => process.stdout.write(String(writes() - before)))
`

test('lines that come one upon the other are written together', async () => {
  const { child, ended } = start(burst, 'pipe')
  assert(child.stdout && child.stderr)
  let [lines, writes] = ['', '']
  child.stderr.setEncoding('utf8').on('data', (text: string) => (lines += text))
  child.stdout.setEncoding('utf8').on('data', (text: string) => (writes += text))
  await ended
  assert.deepEqual(
    logOf(lines).map(({ i }) => i),
    Array.from({ length: 1_000 }, (_, i) => i),
  )
  assert(Number(writes) > 0 && Number(writes) < 100, `${writes} writes`)
})

test('a warning is written at once, after the lines before it', async () => {
  const program = `
    import { createLog } from ${log}
    const log = createLog('info')
    log.info('before')
    log.warn('late')
    process.kill(process.pid, 'SIGKILL')
  `
  const { child, ended } = start(program, 'pipe')
  let said = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (said += text))
  assert.deepEqual(await ended, [null, 'SIGKILL'])
  assert.deepEqual(
    logOf(said).map(({ msg }) => msg),
    ['before', 'late'],
  )
})

test('a line of any length has its place among others', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'log-'))
  const file = openSync(join(directory, 'log'), 'a')
  const program = `
    import { createLog } from ${log}
    const log = createLog('info')
    for (const text of ['small', 'x'.repeat(2 ** 20), '', 'after']) log.info({ text }, 'line')
  `
  const { ended } = start(program, file)
  closeSync(file)
  await ended
  const lines = logOf(readFileSync(join(directory, 'log'), 'utf8'))
  assert.deepEqual(
    lines.map(({ text }) => String(text).length),
    [5, 2 ** 20, 0, 5],
  )
  rmSync(directory, { recursive: true })
})
