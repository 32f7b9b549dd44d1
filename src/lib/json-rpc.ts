import { createConnection } from 'node:net'

/** A JSON-RPC peer answered with an error, or with something that is no answer. */
export class JsonRpcError extends Error {
  override readonly name = 'JsonRpcError'
}

/**
 * One JSON-RPC 1.0 call (RFC 7047 §4) on a connection of its own: the dialect of both ovsdb-server and unixctl.
 * Resolves to `result`; rejects with a {@link JsonRpcError}, with the socket's error, or with the signal's reason.
 * Answers no echo, so the peer must reply before its inactivity probe, 5 s by default.
 */
export function callJsonRpc(
  socketPath: string,
  method: string,
  params: readonly unknown[],
  signal: AbortSignal,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason)
      return
    }
    const chunks: Buffer[] = []
    const connection = createConnection(socketPath)
    const settle = (conclude: () => void): void => {
      signal.removeEventListener('abort', onAbort)
      connection.destroy()
      conclude()
    }
    const onAbort = (): void => settle(() => reject(signal.reason))
    signal.addEventListener('abort', onAbort)
    connection.on('error', error => settle(() => reject(error)))
    connection.on('close', () =>
      settle(() => reject(new JsonRpcError(`${method}: connection closed before the reply`))),
    )
    connection.on('data', chunk => {
      chunks.push(chunk)
      if (chunk.at(-1) !== closingBrace) return
      const reply = parseWhole(Buffer.concat(chunks))
      if (reply !== undefined) settle(() => conclude(method, reply, resolve, reject))
    })
    connection.write(JSON.stringify({ id: 0, method, params }))
  })
}

const closingBrace = '}'.charCodeAt(0)

/** The JSON object that `bytes` hold, or undefined while it is incomplete. */
function parseWhole(bytes: Buffer): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'))
    return isRecord(value) ? value : undefined
  } catch {
    return undefined
  }
}

function conclude(
  method: string,
  reply: Readonly<Record<string, unknown>>,
  resolve: (result: unknown) => void,
  reject: (error: Error) => void,
): void {
  const { result, error } = reply
  if (error === null || error === undefined) resolve(result)
  else reject(new JsonRpcError(`${method}: ${typeof error === 'string' ? error.trim() : JSON.stringify(error)}`))
}

/** Whether a JSON value is an object. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
