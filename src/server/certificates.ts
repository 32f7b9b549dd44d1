import { constants, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createSecureContext, type SecureContextOptions, type TlsOptions } from 'node:tls'
import { sleep } from '../lib/abort.js'

/** Paths of PEM files. */
export interface CertificateFiles {
  /** The server's certificate, and the intermediate ones after it. */
  readonly cert: string
  readonly key: string
  /** The authorities whose client certificates are believed. */
  readonly clientCa: string
}

/** TLS 1.3 (RFC 8446) with a client certificate, HTTP/2 inside; no session outlives the certificates it began with. */
export const mutualTls: TlsOptions = {
  minVersion: 'TLSv1.3',
  requestCert: true,
  rejectUnauthorized: true,
  ALPNProtocols: ['h2'],
  secureOptions: constants.SSL_OP_NO_TICKET,
}

/** Reads the files; throws with what is wrong with them. */
export async function readCertificates({ cert, key, clientCa }: CertificateFiles): Promise<SecureContextOptions> {
  const [certPem, keyPem, caPem] = await Promise.all([readFile(cert), readFile(key), readFile(clientCa)])
  const context = { cert: certPem, key: keyPem, ca: caPem }
  // Says so when they do not belong together.
  createSecureContext(context)
  // But not of authorities: what is no certificate it passes over, and without one it believes nobody.
  const authorities = caPem
    .toString()
    .split(/(?=-----BEGIN )/)
    .filter(text => text.startsWith('-----BEGIN '))
  if (authorities.map(pem => new X509Certificate(pem)).length === 0) throw new Error(`${clientCa} has no certificate`)
  return { ...context, minVersion: 'TLSv1.3', secureOptions: constants.SSL_OP_NO_TICKET }
}

const lookEveryMs = 2_000

/**
 * Calls `onChange` each time the files have become others that belong together, until the signal. Files are replaced one
 * after the other: what does not fit is told once and looked at again. They are read, and not watched, because a change may
 * be that of a symbolic link three directories up.
 */
export async function followCertificates(
  files: CertificateFiles,
  from: SecureContextOptions,
  onChange: (context: SecureContextOptions) => void,
  onProblem: (error: unknown) => void,
  signal: AbortSignal,
): Promise<void> {
  let last = fingerprint(from)
  let problem = ''
  while (!signal.aborted) {
    await sleep(lookEveryMs, signal).catch(() => undefined)
    if (signal.aborted) return
    try {
      const context = await readCertificates(files)
      problem = ''
      if (fingerprint(context) === last) continue
      last = fingerprint(context)
      onChange(context)
    } catch (error) {
      if (String(error) !== problem) onProblem(error)
      problem = String(error)
    }
  }
}

function fingerprint({ cert, key, ca }: SecureContextOptions): string {
  return [cert, key, ca].map(String).join('\n')
}
