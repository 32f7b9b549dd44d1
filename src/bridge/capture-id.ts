import type { Call } from './call.js'
import type { Part } from './commit.js'
import type { Host } from './host.js'
import { requireRoot } from './ovs.js'
import { nextCaptureId, nextCaptureIdMark } from './ownership.js'

/** Ids that no capture had before, in this run or an earlier one. ovs-vswitchd is not troubled with them. */
export class CaptureIds {
  readonly #host: Host
  /** In this run; the database has it a moment later. */
  #next = 1

  constructor(host: Host) {
    this.#host = host
  }

  /** Those that are taken at the same time share a transaction. Errors: those of a commit. */
  async take(call: Call): Promise<number> {
    const { committer, instance } = this.#host
    const part: Part<number> = {
      owns: [],
      needs: [],
      reconfigures: false,
      write: (transaction, replica) => {
        const root = requireRoot(replica)
        const id = Math.max(this.#next, nextCaptureId(instance, root.external_ids))
        this.#next = id + 1
        transaction.setKeys('Open_vSwitch', root._uuid, 'external_ids', nextCaptureIdMark(instance, id + 1))
        return () => id
      },
    }
    return (await committer.commit(part, call)).result
  }
}
