import type { Call } from './call.js'
import type { Part } from './commit.js'
import type { Host } from './host.js'
import { rootOf } from './ovs.js'
import { nextCaptureId, nextCaptureIdMark } from './ownership.js'
import { BridgeError } from './problem.js'

/** No port has a name with a space: this one stands for the number that is counted on. */
const counter = 'next capture id'

/** An id that no capture had before, in this run or an earlier one. ovs-vswitchd is not troubled with it. */
export async function takeCaptureId(host: Host, call: Call): Promise<number> {
  const part: Part<number> = {
    owns: [counter],
    needs: [],
    reconfigures: false,
    write: (transaction, replica) => {
      const root = rootOf(replica)
      if (root === undefined) {
        const message = 'the database has no Open_vSwitch row: it is not initialised'
        throw new BridgeError({ kind: 'backend-unavailable', reason: 'OVSDB_UNAVAILABLE', message })
      }
      const id = nextCaptureId(host.instance, root.external_ids)
      transaction.setKeys('Open_vSwitch', root._uuid, 'external_ids', nextCaptureIdMark(host.instance, id + 1))
      return () => id
    },
  }
  return (await host.committer.commit(part, call)).result
}
