import { BridgeServiceService } from '../gen/ovs/bridge/v1/service.js'
import type { Role } from './door.js'

/** The role that each RPC takes. The only such table: an RPC that is not in it does not compile. */
export const bridgeRoles = {
  checkOvs: 'viewer',
  reportDrift: 'viewer',
  getBridge: 'viewer',
  listBridges: 'viewer',
  getTap: 'viewer',
  listTaps: 'viewer',
  watchTaps: 'viewer',
  watchTapStats: 'viewer',
  getBandwidth: 'viewer',
  getQos: 'viewer',
  getNetflow: 'viewer',
  watchFlows: 'viewer',
  watchAddresses: 'viewer',
  listCaptures: 'viewer',

  startCapture: 'capture',
  stopCapture: 'capture',
  streamCapture: 'capture',

  ensureBridge: 'operator',
  destroyBridge: 'operator',
  createTap: 'operator',
  createTaps: 'operator',
  createContainerTap: 'operator',
  createHostTap: 'operator',
  reserveTapName: 'operator',
  addTap: 'operator',
  removeTap: 'operator',
  moveTap: 'operator',
  setTapQinQ: 'operator',
  destroyTap: 'operator',
  reapTaps: 'operator',
  addBond: 'operator',
  deleteBond: 'operator',
  createMirror: 'operator',
  destroyMirror: 'operator',
  updateQos: 'operator',
  removeQos: 'operator',
  createNetflow: 'operator',
  setNetflowTimeout: 'operator',
  destroyNetflow: 'operator',
  addNetflowWriter: 'operator',
  removeNetflowWriter: 'operator',

  // Ways out of the host, columns as they stand, what is not ours, and all at once.
  addTrunk: 'admin',
  removeTrunk: 'admin',
  addTunnel: 'admin',
  removeTunnel: 'admin',
  setBridgeConfig: 'admin',
  destroyAllBridges: 'admin',
  stopAllCaptures: 'admin',
  destroyUnmanagedBridge: 'admin',
  destroyUnmanagedTap: 'admin',
} satisfies Record<keyof typeof BridgeServiceService, Role>

const bridgeRolesByPath: ReadonlyMap<string, Role> = new Map(
  Object.entries(BridgeServiceService).map(([key, { path }]) => [path, Reflect.get(bridgeRoles, key)]),
)

/** Services that say how the server is and what it serves. */
const openToAll = [
  '/grpc.health.v1.Health/',
  '/grpc.reflection.v1.ServerReflection/',
  '/grpc.reflection.v1alpha.ServerReflection/',
]

/** The role that a method takes, by its path as gRPC has it; undefined: nobody may call it. */
export function roleOfMethod(path: string): Role | undefined {
  return bridgeRolesByPath.get(path) ?? (openToAll.some(service => path.startsWith(service)) ? 'viewer' : undefined)
}

/** Whether calls of the method are recorded for good: those that change something, and those that show payload. */
export function isAudited(path: string): boolean {
  return roleOfMethod(path) !== 'viewer'
}
