import type { Server } from '@grpc/grpc-js'
import { HealthImplementation } from 'grpc-health-check'

/** What `grpc.health.v1.Health` answers. NOT_SERVING until told otherwise. */
export interface Health {
  addTo(server: Server): void
  /** Says whether the named services, and the server as a whole (the empty name), can be used now. */
  report(serving: boolean): void
}

/** `services` are fully qualified names. */
export function createHealth(services: readonly string[]): Health {
  const names = ['', ...services]
  const health = new HealthImplementation(Object.fromEntries(names.map(name => [name, 'NOT_SERVING'])))
  let reported = false
  return {
    addTo: server => health.addToServer(server),
    report(serving) {
      // Watchers hear of changes only.
      if (serving === reported) return
      reported = serving
      for (const name of names) health.setStatus(name, serving ? 'SERVING' : 'NOT_SERVING')
    },
  }
}
