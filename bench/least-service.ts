/**
 * The least that a service with this contract does for a CreateTap, as a process: it takes the call, makes the device and the
 * rows with the raw script, for all who wait at a time, and answers when Open vSwitch has applied them. It parses nothing, keeps
 * no replica and undoes nothing. Arguments: socket of ovsdb-server, address, how many call at a time, how many calls come in all.
 */
import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData } from '@grpc/grpc-js'
import { BridgeServiceService } from '../src/gen/ovs/bridge/v1/service.js'
import { type CreateTapRequest, CreateTapResponse, TapKind, TapState } from '../src/gen/ovs/bridge/v1/tap.js'
import { openRawScript } from './raw-script.js'

interface Waiting {
  readonly request: CreateTapRequest
  readonly answer: sendUnaryData<CreateTapResponse>
}

const [endpoint = '', address = '', callers = '', calls = ''] = process.argv.slice(2)

/** Nobody waits longer than this for those who have not called: those who warm it up are fewer. */
const lingerMs = 20

const script = await openRawScript(endpoint)
let waiting: Waiting[] = []
let toCome = Number(calls)
let isBusy = false
let linger: NodeJS.Timeout | undefined

function createTap({ request }: ServerUnaryCall<CreateTapRequest, CreateTapResponse>, answer: Waiting['answer']): void {
  waiting.push({ request, answer })
  goOn()
}

/** Those who call at a time go together, since each epoch costs ovs-vswitchd a walk over all ports; the last are fewer. */
function goOn(): void {
  if (isBusy || waiting.length === 0) return
  clearTimeout(linger)
  if (waiting.length >= Math.min(Number(callers), toCome)) void makeAll()
  else linger = setTimeout(() => void makeAll(), lingerMs)
}

async function makeAll(): Promise<void> {
  isBusy = true
  const wave = waiting
  waiting = []
  toCome -= wave.length
  await script.addTaps(wave.map(({ request }) => request.tap))
  for (const { request, answer } of wave) {
    const tap = { name: request.tap, bridge: 'br0', vlan: 10, kind: TapKind.TUNTAP, state: TapState.ACTIVE }
    answer(null, CreateTapResponse.fromPartial({ tap }))
  }
  isBusy = false
  goOn()
}

const server = new Server()
server.addService(BridgeServiceService, { createTap })
server.bindAsync(address, ServerCredentials.createInsecure(), error => {
  if (error !== null) throw error
  process.stdout.write('serves\n')
})
