/** A service whose one RPC does nothing: what a call costs, whatever it is for. Argument: the address. */
import { Server, ServerCredentials, type sendUnaryData } from '@grpc/grpc-js'
import { BridgeServiceService } from '../src/gen/ovs/bridge/v1/service.js'
import { GetTapResponse } from '../src/gen/ovs/bridge/v1/tap.js'

const [address = ''] = process.argv.slice(2)
const server = new Server()
server.addService(BridgeServiceService, {
  getTap: (_call: unknown, answer: sendUnaryData<GetTapResponse>) => answer(null, GetTapResponse.fromPartial({})),
})
server.bindAsync(address, ServerCredentials.createInsecure(), error => {
  if (error !== null) throw error
  process.stdout.write('serves\n')
})
