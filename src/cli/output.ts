import { constants, createWriteStream } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import type { Writable } from 'node:stream'
import { sleep } from '../lib/abort.js'

/**
 * A file, or a named pipe once it has a reader; undefined: the signal came first. open(2) would wait for the reader in a
 * thread that nothing ends.
 */
export async function openOutput(path: string, signal: AbortSignal): Promise<Writable | undefined> {
  const stats = await stat(path).catch(() => undefined)
  if (stats?.isFIFO() !== true) return createWriteStream(path)
  while (!signal.aborted) {
    const probe = await open(path, constants.O_WRONLY | constants.O_NONBLOCK).catch(unlessUnread)
    if (probe === undefined) {
      await sleep(readerRetryMs, signal).catch(() => undefined)
      continue
    }
    // Anew: writes are to wait for the reader.
    const pipe = await open(`/proc/self/fd/${probe.fd}`, constants.O_WRONLY)
    await probe.close()
    return pipe.createWriteStream()
  }
  return undefined
}

const readerRetryMs = 50

function unlessUnread(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENXIO') throw error
}
