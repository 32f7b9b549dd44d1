import { encodeAttributes, text } from './attribute.js'
import { concatenate } from './message.js'
import type { NetlinkAnswer, NetlinkSocket } from './socket.js'

// <linux/genetlink.h>
const GENL_ID_CTRL = 0x10
const CTRL_CMD_GETFAMILY = 3
const CTRL_ATTR_FAMILY_NAME = 2
const controllerVersion = 1

/** Asks the controller of generic netlink for a family by name; errno ENOENT when there is none. */
export function queryFamily(socket: NetlinkSocket, family: string): NetlinkAnswer {
  // struct genlmsghdr: command, version, two reserved bytes.
  const header = Uint8Array.of(CTRL_CMD_GETFAMILY, controllerVersion, 0, 0)
  const payload = concatenate(header, encodeAttributes([text(CTRL_ATTR_FAMILY_NAME, family)]))
  return socket.request({ type: GENL_ID_CTRL, payload })
}
