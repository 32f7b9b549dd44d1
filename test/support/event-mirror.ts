import assert from 'node:assert/strict'
import type { Change } from '../../src/ovsdb/index.js'

/** Rows by uuid, made of what a subscriber was told alone. Fails for a change that does not follow from those before it. */
export class EventMirror {
  readonly rows = new Map<string, unknown>()

  take<V>(changes: readonly Change<V>[]): void {
    for (const change of changes) {
      const { before, after } = { before: undefined, after: undefined, ...change } as { before?: Row; after?: Row }
      const uuid = (after ?? before)?._uuid ?? ''
      assert.deepEqual(this.rows.get(uuid), before, `a ${change.kind} of ${uuid} starts from what was told before`)
      if (after === undefined) this.rows.delete(uuid)
      else this.rows.set(uuid, after)
    }
  }
}

interface Row {
  readonly _uuid: string
}
