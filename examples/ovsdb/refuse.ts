import { schema } from '../../src/gen/vswitch.js'
import { newTransaction, OvsdbError } from '../../src/ovsdb/index.js'

const transaction = newTransaction(schema)
try {
  transaction.insert('Port', { name: 'tap2', tag: 4096 })
} catch (error) {
  if (!(error instanceof OvsdbError) || error.problem.kind !== 'invalid-value') throw error
  const { table, column, reason } = error.problem
  console.log(`${table}.${column} ${reason}`)
}
