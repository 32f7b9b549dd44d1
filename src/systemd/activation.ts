/** The first descriptor that is passed (sd_listen_fds(3), SD_LISTEN_FDS_START). */
const firstFd = 3

/**
 * The sockets that systemd has passed to this process, by their FileDescriptorName= (systemd.socket(5)): the variables
 * LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES of sd_listen_fds(3). A unit with several ListenStream= passes as many of one name.
 * Empty if they were meant for another process.
 */
export function inheritedSockets(
  env: Readonly<Record<string, string | undefined>>,
  pid: number,
): ReadonlyMap<string, readonly number[]> {
  const count = Number(env['LISTEN_FDS'] ?? '0')
  if (Number(env['LISTEN_PID']) !== pid || !Number.isInteger(count) || count < 1) return new Map()
  const names = (env['LISTEN_FDNAMES'] ?? '').split(':')
  const sockets = new Map<string, number[]>()
  for (let i = 0; i < count; i++) {
    const name = names[i] ?? 'unknown'
    sockets.set(name, [...(sockets.get(name) ?? []), firstFd + i])
  }
  return sockets
}
