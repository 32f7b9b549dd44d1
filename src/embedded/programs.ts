import { accessSync, constants } from 'node:fs'
import { delimiter, isAbsolute, join } from 'node:path'
import { EmbeddedError } from './errors.js'

/** The files of an installed Open vSwitch; a bare name is looked up in PATH and the sbin directories. */
export interface Programs {
  readonly ovsdbServer: string
  readonly vswitchd: string
  /** The schema that matches these programs. */
  readonly schema: string
  /** setpriv(1) of util-linux, which binds the two processes' life to ours. */
  readonly setpriv: string
}

const onDebian: Programs = {
  ovsdbServer: 'ovsdb-server',
  vswitchd: 'ovs-vswitchd',
  schema: '/usr/share/openvswitch/vswitch.ovsschema',
  setpriv: 'setpriv',
}

/** Resolves all of them to absolute paths; a missing one is the problem `not-installed`. */
export function findPrograms(chosen: Partial<Programs>): Programs {
  const wanted = { ...onDebian, ...chosen }
  return {
    ovsdbServer: findProgram(wanted.ovsdbServer),
    vswitchd: findProgram(wanted.vswitchd),
    schema: findFile(wanted.schema, [wanted.schema], constants.R_OK),
    setpriv: findProgram(wanted.setpriv),
  }
}

function findProgram(program: string): string {
  if (isAbsolute(program)) return findFile(program, [program], constants.X_OK)
  // A login shell's PATH often lacks the sbin directories where both servers are.
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin']
  const candidates = folders.filter(folder => isAbsolute(folder)).map(folder => join(folder, program))
  return findFile(program, candidates, constants.X_OK)
}

function findFile(program: string, candidates: readonly string[], mode: number): string {
  const found = candidates.find(path => {
    try {
      accessSync(path, mode)
      return true
    } catch {
      return false
    }
  })
  if (found === undefined) throw new EmbeddedError({ kind: 'not-installed', program })
  return found
}
