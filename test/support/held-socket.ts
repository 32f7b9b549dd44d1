import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createConnection, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A way to a server on which what either side says can be held back, and which can be cut. */
export interface HeldSocket extends AsyncDisposable {
  readonly path: string
  /** From now on nothing reaches the server. */
  hold(): void
  /** What was held goes on, in its order. */
  release(): void
  /** From now on the client hears nothing of the server, which goes on to hear the client. */
  silence(): void
  /** Ends the connections that there are, and what was held with them; new ones are as at first. */
  cut(): void
}

/** Listens beside the unix socket at `serverPath`. */
export async function openHeldSocket(serverPath: string): Promise<HeldSocket> {
  const directory = mkdtempSync(join(tmpdir(), 'held-'))
  const path = join(directory, 'socket')
  const connections = new Map<Socket, Socket>()
  const server = createServer(client => {
    const onward = createConnection(serverPath)
    connections.set(client, onward)
    client.on('close', () => onward.destroy()).on('error', () => onward.destroy())
    onward.on('close', () => client.destroy()).on('error', () => client.destroy())
    client.pipe(onward)
    onward.pipe(client)
  })
  server.listen(path)
  await once(server, 'listening')
  return {
    path,
    hold: () => {
      for (const [client, onward] of connections) client.unpipe(onward)
    },
    release: () => {
      for (const [client, onward] of connections) client.pipe(onward)
    },
    silence: () => {
      for (const [client, onward] of connections) onward.unpipe(client)
    },
    cut: () => {
      for (const client of connections.keys()) client.destroy()
      connections.clear()
    },
    [Symbol.asyncDispose]: async () => {
      for (const client of connections.keys()) client.destroy()
      server.close()
      await once(server, 'close')
      rmSync(directory, { recursive: true })
    },
  }
}
