/** What a service and systemd say to one another: sockets handed over, and how the service is. Knows no Open vSwitch. */
export { inheritedSockets } from './activation.js'
export { openNotifier } from './notify.js'
