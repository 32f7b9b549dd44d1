import { join, resolve } from 'node:path'
import { maxSocketPathBytes } from '../lib/socket-address.js'
import { EmbeddedError } from './errors.js'

/** Where everything of one private Open vSwitch lies; all paths absolute. */
export interface Layout {
  readonly directory: string
  /** Names the daemon that has the directory. */
  readonly claim: string
  readonly database: string
  readonly databaseSocket: string
  readonly ovsdbServer: ProcessFiles
  readonly vswitchd: ProcessFiles
}

export interface ProcessFiles {
  readonly pidfile: string
  /** The unixctl socket: JSON-RPC, see ovs-appctl(8). */
  readonly control: string
  readonly log: string
}

/** The layout under `directory`; refuses a directory too deep for its sockets. */
export function layoutOf(directory: string): Layout {
  const root = resolve(directory)
  const files = (program: string): ProcessFiles => ({
    pidfile: join(root, `${program}.pid`),
    control: join(root, `${program}.ctl`),
    log: join(root, `${program}.log`),
  })
  const layout: Layout = {
    directory: root,
    claim: join(root, 'daemon.pid'),
    database: join(root, 'conf.db'),
    databaseSocket: join(root, 'db.sock'),
    ovsdbServer: files('ovsdb-server'),
    vswitchd: files('ovs-vswitchd'),
  }
  const longest = Math.max(
    ...[layout.ovsdbServer.control, layout.vswitchd.control].map(path => Buffer.byteLength(path)),
  )
  if (longest > maxSocketPathBytes) {
    const detail = `its path is ${longest - maxSocketPathBytes} bytes too long for a unix socket`
    throw new EmbeddedError({ kind: 'bad-directory', directory: root, detail })
  }
  return layout
}
