import { once } from 'node:events'
import { createServer, type ListenOptions as NetListenOptions, type Server as NetServer, type Socket } from 'node:net'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:tls'
import { logVerbosity, Server, setLogVerbosity } from '@grpc/grpc-js'
import type { Logger } from 'pino'
import { abortScope, raceAbort, shuttingDown } from '../lib/abort.js'
import { assertNever } from '../lib/assert-never.js'
import { formatAddress, type TcpAddress } from '../lib/socket-address.js'
import { codeOf, messageOf } from '../lib/thrown.js'
import type { Calls } from './call.js'
import { type Caller, certificateCaller, loopbackCaller, type ProcessIdentity, processCaller } from './caller.js'
import { type CertificateFiles, followCertificates, mutualTls, readCertificates } from './certificates.js'
import type { Door, Role } from './door.js'
import { Gate } from './gate.js'
import './grpc-timeout.js'
import { defaultLimits, type Limits } from './limits.js'
import { ListenError } from './listen-error.js'
import { Sparingly } from './sparingly.js'
import { bindUnix, type OwnDirectory } from './unix-socket.js'

export interface ListenOptions {
  readonly doors: readonly Door[]
  /** Adds the services. */
  readonly register: (server: Server) => void
  /** The role that a method takes, by its path; undefined: nobody may call it. */
  readonly roleOf: (path: string) => Role | undefined
  /** Drained when the server stops. */
  readonly calls: Calls
  /** How long running calls may still take then. */
  readonly drainTimeoutMs: number
  readonly log: Logger
  readonly limits?: Partial<Limits>
  readonly ownDirectories?: readonly OwnDirectory[]
  /** For doors of kind `tls`. */
  readonly certificates?: CertificateFiles | undefined
  /** Descriptors of listening sockets that systemd passed, by name. */
  readonly inherited?: ReadonlyMap<string, readonly number[]>
  /** The process behind a connected unix socket, by the descriptor of ours. */
  readonly identify?: (fd: number) => ProcessIdentity | undefined
}

/** A running server. Disposing it drains the calls, closes everything and removes the sockets. */
export interface Listening extends AsyncDisposable {
  /** What it is bound to, with the ports that the kernel chose. */
  readonly addresses: readonly string[]
  /** Those of them that take no certificate. */
  readonly plaintext: readonly string[]
}

/** Time for answers to leave after the last handler has settled; only idle streams of others use it up. */
const flushMs = 250

/**
 * Serves on all doors, or on none: throws a `ListenError` for the first that cannot be. A unix socket is never open to
 * more than its mode says, and appears under its name only when it answers.
 */
export async function listen(options: ListenOptions): Promise<Listening> {
  // It would write a client's header that it does not take to standard error, as it is, and wait for who reads that.
  setLogVerbosity(logVerbosity.NONE)
  const limits = { ...defaultLimits, ...options.limits }
  const server = new Server({
    'grpc.enable_channelz': 0,
    'grpc.max_receive_message_length': limits.messageBytes,
    // Above what the gate lets through, so that it is the gate that says no.
    'grpc.max_concurrent_streams': 2 * (limits.callsPerConnection + limits.streamsPerConnection),
    'grpc.keepalive_time_ms': limits.keepaliveMs,
    'grpc.keepalive_timeout_ms': limits.keepaliveTimeoutMs,
  })
  options.register(server)
  const gate = new Gate({ ...options, server, limits })
  const tlsRefusals = new Sparingly<TlsRefusal>(
    (line, refused) => options.log.info({ ...line, refused }, 'TLS client refused'),
    ({ address }) => address,
  )
  const house: House = { ...options, limits, gate, tlsRefusals }
  const opened: OpenDoor[] = []
  try {
    for (const door of options.doors) opened.push(await open(door, house))
  } catch (error) {
    for (const { close } of opened) await close()
    throw error
  }
  tellUnserved(options)
  let stopped: Promise<void> | undefined
  return {
    addresses: opened.map(({ address }) => address),
    plaintext: opened.filter((_, i) => options.doors[i]?.kind !== 'tls').map(({ address }) => address),
    [Symbol.asyncDispose]() {
      stopped ??= stop(server, opened, house)
      return stopped
    },
  }
}

/** What all doors open into. */
interface House extends ListenOptions {
  readonly limits: Limits
  readonly gate: Gate
  readonly tlsRefusals: Sparingly<TlsRefusal>
}

interface TlsRefusal {
  /** Of the door. */
  readonly address: string
  readonly peer: string
  readonly message: string
}

interface OpenDoor {
  readonly address: string
  /** Lets nobody in any more, and removes what is left in the file system. */
  close(): Promise<void>
}

async function stop(server: Server, opened: readonly OpenDoor[], house: House): Promise<void> {
  const { gate, calls, drainTimeoutMs, tlsRefusals } = house
  const shut = Promise.all(opened.map(({ close }) => close()))
  const closed = new Promise<void>(resolve => server.tryShutdown(() => resolve()))
  await calls.drain(drainTimeoutMs)
  using flush = abortScope({ deadline: Date.now() + flushMs })
  await raceAbort(closed, flush.signal).catch(() => undefined)
  server.forceShutdown()
  gate.closeAll()
  await shut
  calls.flushLog()
  tlsRefusals.flush()
}

async function open(door: Door, house: House): Promise<OpenDoor> {
  switch (door.kind) {
    case 'unix': {
      const server = unixServer(door, house)
      const { ownDirectories = [] } = house
      const address = `unix:${door.path}`
      const listening = (path: string) => bound(server, { path }, address)
      const remove = await bindUnix({ ...door, ownDirectories }, listening).catch((error: unknown) => {
        server.close()
        throw error
      })
      return { address, close: () => closed(server).then(remove) }
    }
    case 'inherited':
      return await openInherited(door, house)
    case 'loopback': {
      const server = createServer({ noDelay: true }, socket =>
        house.gate.admit(socket, loopbackCaller(door, peerOf(socket))),
      )
      return await openTcp(server, door.endpoint, () => {})
    }
    case 'tls':
      return await openTls(door, house)
    default:
      return assertNever(door)
  }
}

async function openInherited(door: Extract<Door, { kind: 'inherited' }>, house: House): Promise<OpenDoor> {
  const address = `systemd:${door.name}`
  const servers = (house.inherited?.get(door.name) ?? []).map(fd => ({ fd, server: unixServer(door, house) }))
  const close = async () => void (await Promise.all(servers.map(({ server }) => closed(server))))
  const refusal = (message: string) => new ListenError({ kind: 'cannot-bind', address, message })
  try {
    if (servers.length === 0) throw refusal(`systemd passed no socket named ${door.name}`)
    for (const { fd, server } of servers) {
      await bound(server, { fd }, address)
      // Only TCP has an address of its own to tell.
      if (server.address() !== null) throw refusal(`${address} is not a unix socket`)
    }
  } catch (error) {
    await close()
    throw error
  }
  return { address, close }
}

/** Who connects to a socket that nobody serves waits for ever: its name is in the log at least. */
function tellUnserved({ doors, inherited, log }: ListenOptions): void {
  for (const name of inherited?.keys() ?? []) {
    const isServed = doors.some(door => door.kind === 'inherited' && door.name === name)
    if (!isServed) log.warn({ address: `systemd:${name}` }, 'systemd passed a socket that no --listen names')
  }
}

function unixServer(door: Door, { gate, identify }: House): NetServer {
  return createServer(socket => {
    const fd = descriptorOf(socket)
    gate.admit(socket, processCaller(door, fd === undefined ? undefined : identify?.(fd)))
  })
}

async function openTls(
  door: Extract<Door, { kind: 'tls' }>,
  { gate, certificates, log, limits, tlsRefusals }: House,
): Promise<OpenDoor> {
  const address = formatAddress(door.endpoint)
  if (certificates === undefined) {
    throw new ListenError({
      kind: 'cannot-bind',
      address,
      message: `there are no certificates to serve ${address} with`,
    })
  }
  const context = await readCertificates(certificates).catch((cause: unknown) => {
    const message = `cannot serve ${address}: ${messageOf(cause)}`
    throw new ListenError({ kind: 'cannot-bind', address, message }, { cause })
  })
  const server: TlsServer = createTlsServer({ ...mutualTls, ...context, handshakeTimeout: limits.handshakeTimeoutMs })
  server.on('secureConnection', socket => {
    gate.strangers.part(socketBelow(socket))
    const caller: Caller = certificateCaller(door, peerOf(socket), socket.getPeerCertificate())
    gate.admit(socket, caller)
  })
  const lifetime = abortScope()
  /** By the socket below TLS: one that has ended does not say any more whose it was. */
  const peers = new WeakMap<object, string>()
  const front = createServer({ noDelay: true }, socket => {
    const peer = peerOf(socket)
    peers.set(socket, peer)
    const onLate = () => tlsRefusals.tell({ address: opened.address, peer, message: 'TLS handshake timeout' })
    gate.strangers.greet(socket, () => server.emit('connection', socket), onLate)
  })
  front.maxConnections = 2 * limits.connections
  const opened = await openTcp(front, door.endpoint, () => lifetime.abort(shuttingDown()))
  server.on('tlsClientError', ({ message }: Error, socket: Socket) => {
    // Of a certificate that is not believed: the error says no more than that the connection ended.
    const code: unknown = Reflect.get(socket, 'authorizationError')
    tlsRefusals.tell({
      address: opened.address,
      peer: peers.get(socketBelow(socket)) ?? peerOf(socket),
      message: typeof code === 'string' ? code : message,
    })
    // Node.js ends those that fail; of one that takes too long it only tells.
    socket.destroy()
  })
  const onChange = (changed: typeof context) => {
    server.setSecureContext(changed)
    log.info({ address: opened.address }, 'certificates reloaded')
  }
  const onProblem = (error: unknown) => log.error({ address: opened.address, err: error }, 'certificates not reloaded')
  void followCertificates(certificates, context, onChange, onProblem, lifetime.signal)
  return opened
}

async function openTcp(server: NetServer, wanted: TcpAddress, onClose: () => void): Promise<OpenDoor> {
  const { host, port } = wanted
  await bound(server, { host, port, exclusive: true }, formatAddress(wanted))
  const at = server.address()
  const address = formatAddress({ ...wanted, port: typeof at === 'object' && at !== null ? at.port : port })
  return {
    address,
    close: () => {
      onClose()
      return closed(server)
    },
  }
}

async function bound(
  server: NetServer,
  where: NetListenOptions & { readonly fd?: number },
  address: string,
): Promise<void> {
  try {
    server.listen({ backlog: 1_024, ...where })
    await once(server, 'listening')
    // What goes wrong with one connection later is that connection's own end.
    server.on('error', () => {})
  } catch (cause) {
    const isInUse = codeOf(cause) === 'EADDRINUSE'
    const message = isInUse
      ? `another process is listening on ${address}`
      : `cannot listen on ${address}: ${messageOf(cause)}`
    throw new ListenError({ kind: isInUse ? 'in-use' : 'cannot-bind', address, message }, { cause })
  }
}

/** Stops listening, without waiting for the connections. */
async function closed(server: NetServer): Promise<void> {
  server.close()
}

function peerOf(socket: Socket): string {
  const { remoteAddress = 'unknown', remotePort = 0 } = socket
  return formatAddress({ kind: 'tcp', host: remoteAddress, port: remotePort })
}

/** The socket that TLS is spoken over, which Node.js keeps to itself. */
function socketBelow(socket: Socket): object {
  const below: unknown = Reflect.get(socket, '_parent')
  return typeof below === 'object' && below !== null ? below : socket
}

/** Node.js keeps the descriptor of a socket to itself. */
function descriptorOf(socket: Socket): number | undefined {
  const handle: unknown = Reflect.get(socket, '_handle')
  if (typeof handle !== 'object' || handle === null || !('fd' in handle)) return undefined
  return typeof handle.fd === 'number' && handle.fd >= 0 ? handle.fd : undefined
}
