import { addAddress, changeLink } from './links.js'
import type { Namespace } from './namespace.js'
import { type ReadableWatch, watchReadable } from './readable.js'
import { loadTestSyscalls } from './syscalls.js'
import { openTapDevice } from './tap-device.js'
import type { Testbed } from './testbed.js'

/**
 * A virtual machine, as far as its tap can tell: a namespace with an `eth0` of that address, and a program that has the
 * tap open and carries frames between the two.
 */
export function startGuest(bed: Testbed, tap: string, address: string): Namespace {
  const guest = bed.createContainer(tap)
  const outside = openTapDevice(tap)
  const inside = guest.run(() => {
    const fd = openTapDevice('eth0')
    changeLink({ name: 'eth0', up: true })
    addAddress('eth0', address)
    return fd
  })
  const watches = [carry(outside, inside), carry(inside, outside)]
  bed.use({
    [Symbol.dispose]: () => {
      for (const watch of watches) watch[Symbol.dispose]()
      for (const fd of [outside, inside]) loadTestSyscalls().close(fd)
    },
  })
  return guest
}

const maxFrameBytes = 65_600

/** Hands every frame that comes out of one device to the other. */
function carry(from: number, to: number): ReadableWatch {
  const syscalls = loadTestSyscalls()
  const buffer = Buffer.alloc(maxFrameBytes)
  const watch = watchReadable(from, () => {
    for (let length = syscalls.read(from, buffer); length !== undefined; length = syscalls.read(from, buffer)) {
      syscalls.write(to, buffer.subarray(0, length))
    }
  })
  watch.start()
  return watch
}
