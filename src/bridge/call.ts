/** Who calls, and how long they wait. */
export interface Call {
  readonly signal: AbortSignal
  /** Goes into the transaction's comment. */
  readonly caller: string
}
