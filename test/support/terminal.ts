import { spawn } from 'node:child_process'

/** A command that has a terminal of its own for everything. Disposing hangs up. */
export interface Terminal extends Disposable {
  /** Resolves once the command has written `text`. */
  says(text: string): Promise<void>
}

/** Runs a line of a shell on a terminal of its own; script(1). */
export function openTerminal(line: string): Terminal {
  const child = spawn('script', ['--quiet', '--command', `exec ${line}`, '/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let said = ''
  let heard = () => {}
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text
    heard()
  })
  return {
    says: text =>
      new Promise(resolve => {
        heard = () => {
          if (said.includes(text)) resolve()
        }
        heard()
      }),
    [Symbol.dispose]: () => child.kill('SIGKILL'),
  }
}
