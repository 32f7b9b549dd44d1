import assert from 'node:assert/strict'

/** Rows by uuid, made of what a subscriber was told alone. Fails for a change that does not follow from those before it. */
export class EventMirror {
  readonly rows = new Map<string, unknown>()

  take(changes: readonly ToldChange[]): void {
    for (const { kind, before, after } of changes) {
      const uuid = (after ?? before)?._uuid ?? ''
      assert.deepEqual(this.rows.get(uuid), before, `a ${kind} of ${uuid} starts from what was told before`)
      if (after === undefined) this.rows.delete(uuid)
      else this.rows.set(uuid, after)
    }
  }
}

/** Any `Change`. */
interface ToldChange {
  readonly kind: string
  readonly before?: Row
  readonly after?: Row
}

interface Row {
  readonly _uuid: string
}
