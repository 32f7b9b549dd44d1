import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http'
import { pipeline } from 'node:stream/promises'
import { setImmediate as otherWork } from 'node:timers/promises'
import { Registry } from 'prom-client'
import { sharing } from '../lib/sharing.js'
import { formatAddress, type TcpAddress } from '../lib/socket-address.js'
import { codeOf } from '../lib/thrown.js'
import type { Page } from './page.js'

/** Where metrics are served. Disposing it cuts the scrapes that run. */
export interface Door extends AsyncDisposable {
  /** With the port that the kernel chose. */
  readonly url: string
}

export interface DoorOptions {
  readonly address: TcpAddress
  /** Makes the page. */
  readonly render: () => Promise<Page>
  /** Told when a page could not be made. */
  readonly onError: (error: unknown) => void
}

/** A scraper or two, and somebody who looks. */
const maxConnections = 16

/** Who reads nothing for so long has gone. */
const patienceMs = 30_000

const path = '/metrics'

/** Serves the page under /metrics by HTTP; scrapes at the same time share one. Throws when the address cannot be had. */
export async function openDoor({ address, render, onError }: DoorOptions): Promise<Door> {
  const server = createServer(answering(sharing(render), onError))
  server.maxConnections = maxConnections
  server.setTimeout(patienceMs)
  await bind(server, address)
  const bound = server.address()
  const port = typeof bound === 'object' && bound !== null ? bound.port : address.port
  return {
    url: `http://${formatAddress({ ...address, port })}${path}`,
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise(resolve => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
}

async function bind(server: Server, address: TcpAddress): Promise<void> {
  try {
    server.listen({ host: address.host, port: address.port })
    await once(server, 'listening')
  } catch (error) {
    const why = codeOf(error) === 'EADDRINUSE' ? 'another process is listening there' : String(error)
    throw new Error(
      `cannot serve metrics on ${formatAddress(address)}: ${why}; give --metrics-listen another address, or off`,
      { cause: error },
    )
  }
}

function answering(render: () => Promise<Page>, onError: (error: unknown) => void): RequestListener {
  return (request, response) => {
    const refusal = refusalOf(request)
    if (refusal !== undefined) return refuse(response, ...refusal)
    render().then(
      // Who scrapes may go before the end of the page: that is nobody's error.
      page => answer(request, response, page).catch(() => undefined),
      (error: unknown) => {
        onError(error)
        refuse(response, 500, 'the metrics could not be rendered; the log says why')
      },
    )
  }
}

function refusalOf({ url = '', method = '' }: IncomingMessage): readonly [status: number, text: string] | undefined {
  if (url.split('?')[0] !== path) return [404, `metrics are under ${path}`]
  return method === 'GET' || method === 'HEAD' ? undefined : [405, 'only GET and HEAD']
}

function refuse(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain', ...(status === 405 && { allow: 'GET, HEAD' }) })
  response.end(`${text}\n`)
}

/** Sends a page as fast as it is read. Rejects when the reader goes before its end. */
async function answer(request: IncomingMessage, response: ServerResponse, page: Page): Promise<void> {
  using _held = page.hold()
  response.writeHead(200, {
    'content-type': Registry.PROMETHEUS_CONTENT_TYPE,
    'content-length': page.slices.reduce((total, slice) => total + slice.length, 0),
  })
  if (request.method === 'GET') await pipeline(oneEachTurn(page.slices), response)
  else response.end()
}

/** A reader on this host takes megabytes at once: without turns between, all of them would be copied in one. */
async function* oneEachTurn(slices: readonly Buffer[]): AsyncGenerator<Buffer, void> {
  for (const slice of slices) {
    yield slice
    await otherWork()
  }
}
