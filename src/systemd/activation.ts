/** The first descriptor that is passed (sd_listen_fds(3), SD_LISTEN_FDS_START). */
const firstFd = 3

/**
 * The sockets that systemd has passed to this process, by their FileDescriptorName= (systemd.socket(5)): the variables
 * LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES of sd_listen_fds(3). Empty if they were meant for another process.
 */
export function inheritedSockets(
  env: Readonly<Record<string, string | undefined>>,
  pid: number,
): ReadonlyMap<string, number> {
  const count = Number(env['LISTEN_FDS'] ?? '0')
  if (Number(env['LISTEN_PID']) !== pid || !Number.isInteger(count) || count < 1) return new Map()
  const names = (env['LISTEN_FDNAMES'] ?? '').split(':')
  return new Map(Array.from({ length: count }, (_, i) => [names[i] ?? 'unknown', firstFd + i]))
}
