import { type Server, status } from '@grpc/grpc-js'
import {
  type HealthServer,
  HealthService,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from '../gen/grpc/health/v1/health.js'

/** What `grpc.health.v1.Health` answers. NOT_SERVING until told otherwise. */
export interface Health {
  addTo(server: Server): void
  /** Says whether the named services, and the server as a whole (the empty name), can be used now. */
  report(serving: boolean): void
}

/** `services` are fully qualified names. */
export function createHealth(services: readonly string[]): Health {
  const names = ['', ...services]
  const watchers = new Set<() => void>()
  let current = ServingStatus.NOT_SERVING
  const service: HealthServer = {
    check: ({ request: { service } }, callback) => {
      if (names.includes(service)) callback(null, { status: current })
      // Not by its name: headers that are too long would leave the connection without an answer from then on.
      else callback({ code: status.NOT_FOUND, details: 'a service of that name is not known here' })
    },
    watch: call => {
      const isKnown = names.includes(call.request.service)
      let told: ServingStatus | undefined
      // Who does not read hears the latest once it does.
      const tell = () => {
        const serving = isKnown ? current : ServingStatus.SERVICE_UNKNOWN
        if (serving === told || call.writableNeedDrain) return
        told = serving
        call.write({ status: serving })
      }
      call.on('drain', tell)
      watchers.add(tell)
      call.once('cancelled', () => watchers.delete(tell))
      tell()
    },
    list: (_call, callback) =>
      callback(null, { statuses: Object.fromEntries(names.map(name => [name, { status: current }])) }),
  }
  return {
    addTo: server => server.addService(HealthService, service),
    report(serving) {
      current = serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING
      for (const tell of watchers) tell()
    },
  }
}
