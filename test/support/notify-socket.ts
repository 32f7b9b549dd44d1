import { rmSync } from 'node:fs'
import koffi from 'koffi'
import { until } from './until.js'

/** Stands for systemd: a socket of NOTIFY_SOCKET (sd_notify(3)). */
export interface NotifySocket extends Disposable {
  /** All that has been said so far. */
  heard(): readonly string[]
  /** Resolves when somebody has said `assignment`, so many times. */
  hears(assignment: string, times?: number): Promise<void>
}

const [AF_UNIX, SOCK_DGRAM, SOCK_CLOEXEC, MSG_DONTWAIT] = [1, 2, 0o2000000, 0x40]

export function openNotifySocket(path: string): NotifySocket {
  const libc = koffi.load('libc.so.6')
  const recv = libc.func('intptr_t recv(int, void *, size_t, int)')
  const fd = Number(libc.func('int socket(int, int, int)')(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0))
  const name = path.startsWith('@') ? `\0${path.slice(1)}` : `${path}\0`
  const address = Buffer.concat([Buffer.from(new Uint16Array([AF_UNIX]).buffer), Buffer.from(name)])
  if (Number(libc.func('int bind(int, const void *, uint32_t)')(fd, address, address.length)) !== 0) {
    throw new Error(`no socket at ${path}`)
  }
  const said: string[] = []
  const heard = () => {
    const datagram = Buffer.alloc(4096)
    for (;;) {
      const length = Number(recv(fd, datagram, datagram.length, MSG_DONTWAIT))
      if (length <= 0) return said
      said.push(...datagram.toString('utf8', 0, length).split('\n'))
    }
  }
  return {
    heard,
    hears: async (assignment, times = 1) => {
      const count = () => heard().filter(one => one === assignment).length
      await until(`${assignment} is said ${times} times`, () => count() >= times, { deadlineMs: 30_000 })
    },
    [Symbol.dispose]: () => {
      libc.func('int close(int)')(fd)
      if (!path.startsWith('@')) rmSync(path, { force: true })
    },
  }
}
