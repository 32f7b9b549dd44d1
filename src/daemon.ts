import { join } from 'node:path'
import { status } from '@grpc/grpc-js'
import type { Logger } from 'pino'
import { Addresses } from './bridge/addresses.js'
import { BareTaps } from './bridge/bare-taps.js'
import { Captures } from './bridge/capture.js'
import { Committer } from './bridge/commit.js'
import { openTapFeed } from './bridge/events.js'
import type { Host } from './bridge/host.js'
import { countTaps } from './bridge/inventory.js'
import { NameSeries } from './bridge/name-series.js'
import { NetflowCollectors } from './bridge/netflow-collectors.js'
import { type DatapathType, monitored, needed, type OvsClient } from './bridge/ovs.js'
import { bridgeDeviceAlias, deviceAlias } from './bridge/ownership.js'
import { QosUpkeep } from './bridge/qos-upkeep.js'
import { runReaper } from './bridge/reap.js'
import { repairs } from './bridge/recovered.js'
import { DeviceRemovals } from './bridge/removals.js'
import { startSnooping } from './bridge/snooping.js'
import { Stats } from './bridge/stats.js'
import { TapRecords } from './bridge/tap-records.js'
import { newTunnelNames } from './bridge/tunnel-names.js'
import { allUndone } from './bridge/undo.js'
import { askVswitchd } from './bridge/vswitchd.js'
import { openCaptureEngine } from './capture/index.js'
import type { Config, MetricsConfig, OvsConfig } from './config.js'
import { type EmbeddedEvent, startEmbedded } from './embedded/index.js'
import { type Failure, failUpon } from './failure.js'
import { descriptors } from './gen/descriptors.js'
import { schema } from './gen/vswitch.js'
import { claimName, type Kernel, openKernel, openPeerLookup } from './kernel/index.js'
import { abortScope, shuttingDown, sleep } from './lib/abort.js'
import { Disposables } from './lib/disposables.js'
import { OneAtATime } from './lib/one-at-a-time.js'
import { type Door, newTally, type Present, serveMetrics, type Tally } from './metrics/index.js'
import { openOvsdb, ovsdbStates } from './ovsdb/index.js'
import { keepRecovered, type Recovery } from './recovery.js'
import { Calls } from './server/call.js'
import { bridgeServiceDefinition, streamingMethods } from './server/definition.js'
import { createHealth, type Health } from './server/health.js'
import { listen } from './server/listen.js'
import { createReflection, serveReflection } from './server/reflection.js'
import { isAudited, roleOfMethod } from './server/role.js'
import { bridgeService } from './server/service.js'
import { inheritedSockets } from './systemd/index.js'

/** A daemon that serves. Disposing it drains its calls, then takes down what it started, in reverse. */
export interface Daemon extends AsyncDisposable {
  /** What it listens on, with the ports that the kernel chose. */
  readonly addresses: readonly string[]
  /** Those of them that take no certificate. */
  readonly plaintext: readonly string[]
  /** Which Open vSwitch it manages, in words. */
  readonly ovs: string
  /** Where Prometheus finds its metrics; undefined: nowhere. */
  readonly metricsUrl: string | undefined
  readonly host: Host
  /** Resolves when it cannot go on, with why, and is to be disposed. */
  readonly failed: Promise<Error>
}

/** How long a start waits for the database; later the daemon serves without, as UNAVAILABLE, until it comes. */
const databaseWithinMs = 5_000

/** How long the end waits for what the calls that it cut short had begun. */
const undoWithinMs = 5_000

/** Starts everything that `config` asks for, or throws with nothing left behind, so too when the signal ends the start. */
export async function startDaemon(
  config: Config,
  log: Logger,
  version: string,
  signal: AbortSignal = new AbortController().signal,
): Promise<Daemon> {
  const parts = new Disposables()
  try {
    const daemon = await compose(config, log, newTally({ version, repairs }), parts, signal)
    signal.throwIfAborted()
    return daemon
  } catch (error) {
    await parts[Symbol.asyncDispose]()
    throw error
  }
}

async function compose(
  config: Config,
  log: Logger,
  tally: Tally,
  parts: Disposables,
  signal: AbortSignal,
): Promise<Daemon> {
  parts.use(claimInstance(config.instance))
  const kernel = parts.use(await openKernel())
  const socket = await openOvs(config, kernel, log, parts, signal)
  const lifetime = abortScope()
  const ovsdb = parts.use(connect(config, socket, tally, log))
  parts.defer(() => lifetime.abort(shuttingDown()))
  const failure = parts.use(failUpon(ovsdb, config.instance, lifetime))
  const on = { kernel, ovsdb, socket, lifetime: lifetime.signal, failure, tally, log }
  const host = await openHost(config, on, parts, signal)
  const store = { directory: config.captureDir, quotaBytes: config.captureQuotaBytes }
  const captures = parts.use(new Captures(host, parts.use(openCaptureEngine(store)), store, config.maxCaptures))
  const recovery = await keepRecovered(host, captures.ports, tally)
  parts.use(await startSnooping(host))
  const watched = { feed: parts.use(openTapFeed(host)), stats: parts.use(new Stats(host)) }
  const calls = new Calls({ log, isAudited, onCall: call => tally.call({ ...call, code: status[call.code] }) })
  const door = await openMetrics(config.metrics, { host, stats: watched.stats, calls, tally }, parts)
  const health = createHealth(['ovs.bridge.v1.BridgeService'])
  parts.defer(() => allUndone(host, undoWithinMs))
  const listening = parts.use(
    await listen({
      doors: config.listen,
      certificates: config.certificates,
      limits: config.limits,
      roleOf: roleOfMethod,
      inherited: inheritedSockets(process.env, process.pid),
      identify: openPeerLookup(),
      log,
      register: server => {
        server.addService(bridgeServiceDefinition(), bridgeService(host, calls, watched, captures))
        serveReflection(server, createReflection(descriptors))
        health.addTo(server)
      },
      calls,
      drainTimeoutMs: config.drainTimeoutMs,
      // Who may enter a door is its socket's to say: that of another role may be beside it.
      ownDirectories: [
        { path: '/run/ovs-bridged', mode: 0o755 },
        { path: config.stateDir, mode: 0o750 },
      ],
    }),
  )
  void runReaper(host)
  parts.use(followHealth(host, health, tally, recovery))
  const absence = host.ovsdb.status.state === 'ready' ? '' : ' (not there yet)'
  return {
    addresses: listening.addresses,
    plaintext: listening.plaintext,
    ovs: `${config.ovs.kind === 'embedded' ? 'its own' : "the host's"}, unix:${socket}, datapath ${host.datapathType}${absence}`,
    metricsUrl: door?.url,
    host,
    failed: failure.failed,
    [Symbol.asyncDispose]: () => parts[Symbol.asyncDispose](),
  }
}

/**
 * Keeps daemons of one instance apart that have different databases: the lock in a database does not, and to each the devices
 * of the other would be orphans.
 */
function claimInstance(instance: string): Disposable {
  const claim = claimName(deviceAlias(instance))
  if (claim !== undefined) return claim
  throw new Error(`another daemon of the instance ${instance} runs on this host; give this one another --instance`)
}

/** The socket of the database that is to be managed. */
async function openOvs(
  { ovs, stateDir, instance }: Config,
  kernel: Kernel,
  log: Logger,
  parts: Disposables,
  signal: AbortSignal,
): Promise<string> {
  if (ovs.kind === 'host') return ovs.endpoint.path
  using scope = abortScope({ deadline: Date.now() + 60_000, parents: [signal] })
  const embedded = parts.use(
    await startEmbedded({
      directory: join(stateDir, 'ovs'),
      signal: scope.signal,
      onEvent: event => logEmbedded(log, event),
      removeLinks: (names, signal) => removeLeftLinks(kernel, instance, names, signal),
    }),
  )
  return embedded.endpoint.slice('unix:'.length)
}

/** Devices that a killed ovs-vswitchd had made for itself: persistent, and no tap's. */
async function removeLeftLinks(
  kernel: Kernel,
  instance: string,
  names: readonly string[],
  signal: AbortSignal,
): Promise<readonly string[]> {
  const wanted = new Set(names)
  const links = await kernel.listLinks(signal)
  const aliases = new Set(['', bridgeDeviceAlias(instance)])
  const left = links.filter(link => wanted.has(link.name) && link.tun?.persistent === true && aliases.has(link.alias))
  return (await kernel.deleteLinks(left, signal)).deleted
}

function connect(config: Config, socket: string, tally: Tally, log: Logger): OvsClient {
  return openOvsdb({
    endpoint: { kind: 'unix', path: socket },
    schema,
    monitor: monitored,
    required: needed,
    // RFC 7047 §4.1.8 takes an <id>, which has no dashes; an instance's name has no underscores.
    lock: `ovs_bridged_${config.instance.replaceAll('-', '_')}`,
    onEvent: event => {
      if (event.kind === 'status') {
        tally.ovsdbEntered(event.status.state)
        log.info({ ovsdb: event.status.state }, 'ovsdb')
      } else if (event.kind === 'loaded') log.info(event, 'ovsdb')
      else log.warn(event, 'ovsdb')
    },
  })
}

interface Foundations {
  readonly kernel: Kernel
  readonly ovsdb: OvsClient
  readonly socket: string
  readonly lifetime: AbortSignal
  readonly failure: Failure
  readonly tally: Tally
  readonly log: Logger
}

async function openHost(config: Config, on: Foundations, parts: Disposables, signal: AbortSignal): Promise<Host> {
  const { kernel, ovsdb, lifetime, failure, tally, log } = on
  const { instance } = config
  await settled(ovsdb, instance, signal)
  failure.throwIfFailed()
  const notice: Host['notice'] = (level, message, details = {}) => log[level](details, message)
  const records = parts.use(new TapRecords(ovsdb, instance))
  const committer = new Committer(ovsdb, instance, lifetime, tally.transaction)
  const kept = { instance, ovsdb, records, committer, lifetime, notice }
  const onRestored = () => tally.repaired('tap_qos', 1)
  return {
    instance,
    defaultBridge: config.defaultBridge,
    datapathType: await datapathType(config.ovs, kernel, lifetime),
    ovsdb,
    kernel,
    committer,
    records,
    tapNames: new NameSeries(config.tapNameFormat),
    bondNames: new NameSeries(config.bondNameFormat),
    tunnelNames: newTunnelNames(),
    removals: new DeviceRemovals(kernel, lifetime),
    bare: new BareTaps(),
    reapings: new OneAtATime(),
    inTheMaking: new Set(),
    demolitions: new Map(),
    qos: parts.use(new QosUpkeep({ ...kept, kernel, onRestored })),
    netflows: parts.use(new NetflowCollectors({ instance, ovsdb, captureDirectory: config.captureDir, notice })),
    addresses: parts.use(new Addresses({ ...kept, ttlMs: config.addressTtlMs })),
    recoveries: [],
    outstanding: new Map(),
    undoing: new Set(),
    askVswitchd: signal => askVswitchd(on.socket, signal),
    lifetime,
    notice,
  }
}

/** Waits a moment for the database. Throws when another daemon of this instance holds it. */
async function settled(ovsdb: OvsClient, instance: string, signal: AbortSignal): Promise<void> {
  using scope = abortScope({ deadline: Date.now() + databaseWithinMs, parents: [signal] })
  await ovsdb.ready(scope.signal).catch(() => undefined)
  signal.throwIfAborted()
  if (ovsdb.status.state !== 'locked-out') return
  throw new Error(
    `another daemon of the instance ${instance} manages this Open vSwitch; give this one another --instance`,
  )
}

async function datapathType(ovs: OvsConfig, kernel: Kernel, signal: AbortSignal): Promise<DatapathType> {
  if (ovs.kind === 'embedded') return 'netdev'
  if (ovs.datapath !== 'auto') return ovs.datapath
  return (await kernel.probe(signal)).openvswitch ? 'system' : 'netdev'
}

interface Shown {
  readonly host: Host
  readonly stats: Stats
  readonly calls: Calls
  readonly tally: Tally
}

async function openMetrics(
  config: MetricsConfig | undefined,
  of: Shown,
  parts: Disposables,
): Promise<Door | undefined> {
  if (config === undefined) return undefined
  const { host, stats, calls, tally } = of
  const present: Present = {
    taps: () => countTaps(host),
    tapTotals: () => (config.perTap ? stats.totals() : []),
    streams: () => streamingMethods.map(method => ({ method, ...calls.openStreams(method) })),
    addresses: () => host.addresses.readings,
    ovsdb: () => ({ states: ovsdbStates, state: host.ovsdb.status.state, readings: host.ovsdb.readings }),
  }
  const onError = (error: unknown) => host.notice('error', 'metrics could not be rendered', { error })
  return parts.use(await serveMetrics({ address: config.listen, tally, present, onError }))
}

const healthIntervalMs = 2_000

/** SERVING while the database is at hand and ovs-vswitchd answers, which is asked every 2 s; NOT_SERVING once disposed. */
function followHealth(host: Host, health: Health, tally: Tally, recovery: Recovery): Disposable {
  const ended = abortScope({ parents: [host.lifetime] })
  const watch = async () => {
    let last = await host.askVswitchd(ended.signal).catch(() => undefined)
    let answered = last !== undefined
    while (!ended.signal.aborted) {
      const pid = await host.askVswitchd(ended.signal).catch(() => undefined)
      if (ended.signal.aborted) return
      tally.vswitchdAnswered(pid !== undefined)
      health.report(pid !== undefined && host.ovsdb.status.state === 'ready')
      if (pid !== undefined && (pid !== last || !answered)) recovery.vswitchdBack()
      answered = pid !== undefined
      last = pid ?? last
      await sleep(healthIntervalMs, ended.signal).catch(() => undefined)
    }
  }
  const following = host.ovsdb.onStatus(({ state }) => {
    if (state !== 'ready') health.report(false)
  })
  void watch()
  return {
    [Symbol.dispose]: () => {
      ended.abort(shuttingDown())
      following[Symbol.dispose]()
      health.report(false)
    },
  }
}

function logEmbedded(log: Logger, event: EmbeddedEvent): void {
  if (event.kind === 'clean-failed') log.warn({ links: event.links, err: event.error }, 'embedded Open vSwitch')
  else log.info({ event }, 'embedded Open vSwitch')
}
