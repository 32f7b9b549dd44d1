/** Tells whoever keeps the log. */
export type Notice = (
  level: 'info' | 'warn' | 'error',
  message: string,
  details?: Readonly<Record<string, unknown>>,
) => void
