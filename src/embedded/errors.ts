import { assertNever } from '../lib/assert-never.js'

/** The two processes of an Open vSwitch, by the names of their programs. */
export type ProcessName = 'ovsdb-server' | 'ovs-vswitchd'

/** How a process ended, as waitpid(2) tells it. */
export type Exit =
  | { readonly kind: 'status'; readonly status: number }
  | { readonly kind: 'signal'; readonly signal: NodeJS.Signals }

/** What can keep a private Open vSwitch from starting. */
export type EmbeddedProblem =
  /** A live daemon has this directory. */
  | { readonly kind: 'in-use'; readonly directory: string; readonly pid: number }
  /** A live ovs-vswitchd of somebody else has the userspace datapath of this network namespace. */
  | { readonly kind: 'datapath-held'; readonly pid: number }
  | { readonly kind: 'not-installed'; readonly program: string }
  | { readonly kind: 'bad-directory'; readonly directory: string; readonly detail: string }
  | { readonly kind: 'bad-database'; readonly path: string; readonly detail: string }
  | { readonly kind: 'exited'; readonly process: ProcessName; readonly exit: Exit; readonly lastWords: string }
  | { readonly kind: 'not-ready'; readonly process: ProcessName; readonly withinMs: number; readonly lastWords: string }

/** Every failure of this room; `message` is one sentence for the person who typed the command. */
export class EmbeddedError extends Error {
  override readonly name = 'EmbeddedError'

  constructor(
    readonly problem: EmbeddedProblem,
    options?: ErrorOptions,
  ) {
    super(describeProblem(problem), options)
  }
}

/** `status 1` or `SIGKILL`. */
function describeExit(exit: Exit): string {
  return exit.kind === 'status' ? `status ${exit.status}` : exit.signal
}

function describeProblem(problem: EmbeddedProblem): string {
  switch (problem.kind) {
    case 'in-use':
      return `another ovs-bridged uses ${problem.directory}: pid ${problem.pid}`
    case 'datapath-held':
      return `another ovs-vswitchd already runs the userspace datapath of this network namespace: pid ${problem.pid}`
    case 'not-installed':
      return `${problem.program} is not installed: apt-get install openvswitch-switch`
    case 'bad-directory':
      return `${problem.directory} cannot hold a private Open vSwitch: ${problem.detail}`
    case 'bad-database':
      return `${problem.path}: ${problem.detail}`
    case 'exited':
      return `${problem.process} ended at once with ${describeExit(problem.exit)}${quoted(problem.lastWords)}`
    case 'not-ready':
      return `${problem.process} was not ready within ${problem.withinMs} ms${quoted(problem.lastWords)}`
    default:
      return assertNever(problem)
  }
}

function quoted(lastWords: string): string {
  return lastWords === '' ? '' : `: ${lastWords}`
}
