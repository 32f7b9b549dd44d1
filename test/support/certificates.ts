import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ChannelCredentials, credentials } from '@grpc/grpc-js'

/** A certificate with its key, as PEM files. */
export interface Issued {
  readonly cert: string
  readonly key: string
}

/** An authority of the test's own. Disposing it removes its files. */
export interface Authority extends Disposable {
  readonly directory: string
  /** Path of its own certificate. */
  readonly ca: string
  /** Signs for a server on 127.0.0.1 or, with URIs among its names, for a client. */
  issue(commonName: string, ...uris: readonly string[]): Issued
}

export const roleUri = (role: string) => `urn:ovs-bridged:role:${role}`

/** Makes an authority with openssl(1). */
export function createAuthority(): Authority {
  const directory = mkdtempSync(join(tmpdir(), 'authority-'))
  const openssl = (...args: readonly string[]) =>
    execFileSync('openssl', args, { cwd: directory, stdio: ['ignore', 'ignore', 'pipe'] })
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  openssl('req', '-x509', ...newKey, '-keyout', 'ca.key', '-out', 'ca.crt', '-days', '2', '-subj', '/CN=authority')
  let serial = 1
  return {
    directory,
    ca: join(directory, 'ca.crt'),
    issue: (commonName, ...uris) => {
      const name = `${serial++}`
      const names = ['IP:127.0.0.1', ...uris.map(uri => `URI:${uri}`)].join(',')
      writeFileSync(join(directory, `${name}.ext`), `subjectAltName=${names}\n`)
      openssl('req', ...newKey, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${commonName}`)
      const signed = ['-in', `${name}.csr`, '-out', `${name}.crt`, '-days', '2', '-extfile', `${name}.ext`]
      openssl('x509', '-req', '-CA', 'ca.crt', '-CAkey', 'ca.key', '-set_serial', name, ...signed)
      return { cert: join(directory, `${name}.crt`), key: join(directory, `${name}.key`) }
    },
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  }
}

/** How a client shows a certificate; without one it shows none. */
export function clientCredentials(authority: Authority, issued?: Issued): ChannelCredentials {
  const ca = readFileSync(authority.ca)
  if (issued === undefined) return credentials.createSsl(ca)
  return credentials.createSsl(ca, readFileSync(issued.key), readFileSync(issued.cert))
}
