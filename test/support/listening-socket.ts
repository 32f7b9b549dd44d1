import koffi from 'koffi'

/** The descriptor of a listening unix socket, bound by somebody else than Node.js: as systemd would pass it. */
export function listeningSocket(path: string): number {
  const libc = koffi.load('libc.so.6')
  const [AF_UNIX, SOCK_STREAM, SOCK_CLOEXEC] = [1, 1, 0o2000000]
  const fd = Number(libc.func('int socket(int, int, int)')(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0))
  const address = Buffer.concat([Buffer.from(new Uint16Array([AF_UNIX]).buffer), Buffer.from(`${path}\0`)])
  const bound = Number(libc.func('int bind(int, const void *, uint32_t)')(fd, address, address.length))
  const listening = Number(libc.func('int listen(int, int)')(fd, 128))
  if (fd < 0 || bound !== 0 || listening !== 0) throw new Error(`no listening socket at ${path}`)
  return fd
}
