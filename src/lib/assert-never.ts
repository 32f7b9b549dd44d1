/** Marks a branch that the types exclude; reaching it is a defect. */
export function assertNever(value: never): never {
  throw new Error(`unexpected value: ${JSON.stringify(value)}`)
}
