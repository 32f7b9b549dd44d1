import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Attack, attackersProgram } from './attackers.js'
import type { Authority } from './certificates.js'
import type { DaemonProcess } from './daemon-process.js'
import type { Api } from './rpc.js'
import { within } from './until.js'

/** A user who has no business here (nobody of base-passwd). */
const nobody = 65_534

const open = join(tmpdir(), 'open.sock')

/** Flags of a daemon that attackers get at. Has them pass through the directory for temporary files. */
export function attackedDoors(authority: Authority): string[] {
  chmodSync(tmpdir(), (statSync(tmpdir()).mode & 0o7777) | 0o111)
  const { cert, key } = authority.issue('server')
  const tls = ['--tls-cert', cert, '--tls-key', key, '--tls-client-ca', authority.ca]
  return ['--listen', `unix:${open},role=viewer,mode=0666`, '--listen', '127.0.0.1:0', ...tls]
}

/** Has attackers at work on a daemon with {@link attackedDoors} while `run` runs. */
export async function underAttack<T>(attack: Attack, daemon: DaemonProcess, run: () => Promise<T>): Promise<T> {
  const [, tls = ''] = /listens on .*, (127\.0\.0\.1:\d+)$/m.exec(daemon.stdout()) ?? []
  const address = attack === 'handshakes' ? tls : open
  // It stands for other hosts, and so takes no processor from the daemon.
  const args = ['-n', '19', process.execPath, attackersProgram, attack, address, String(nobody)]
  const attacker = spawn('nice', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(attacker, 'close')
  try {
    const failed = ended.then(() => Promise.reject(new Error(`the attackers of ${attack} have ended`)))
    await within('the attack is under way', 90_000, Promise.race([once(attacker.stdout, 'data'), failed]))
    return await run()
  } finally {
    attacker.kill('SIGKILL')
    await ended
  }
}

/** How long each of so many calls took, that came every 20 ms, each client waiting for its answer. */
export async function callAll(apis: readonly Api[], count: number): Promise<number[]> {
  const durationsMs: number[] = []
  const call = async (api: Api) => {
    for (let i = 0; i < count / apis.length; i++) {
      const began = performance.now()
      assert.equal((await api.listBridges()).bridges.length, 1)
      durationsMs.push(performance.now() - began)
      await delay(20)
    }
  }
  await Promise.all(apis.map(call))
  return durationsMs
}
