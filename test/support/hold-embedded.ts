/** A process of its own that runs a private Open vSwitch in the directory it is given, until it is killed. */
import { startEmbedded } from '../../src/embedded/index.js'

const [directory = ''] = process.argv.slice(2)
const { signal } = new AbortController()
const ovs = await startEmbedded({ directory, signal, onEvent: () => {}, removeLinks: async () => [] })
process.stdout.write(`${JSON.stringify(ovs.status)}\n`)
setInterval(() => {}, 60_000)
