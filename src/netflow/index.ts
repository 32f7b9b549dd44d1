/** NetFlow version 5: what comes in, and the writers that carry it on. Knows no Open vSwitch. */
export { Collector, type CollectorCounters, openCollector } from './collector.js'
export { type Datagram, decodeDatagram, type Engine, type Flow, formatFlow, formatIpv4 } from './datagram.js'
export { connectTcp, connectUdp, fileSink, type Sink } from './sink.js'
export { Writer, type WriterCounters } from './writer.js'
export { parseWriterTarget, type WriterFormat, type WriterSpec, type WriterTarget, writerName } from './writer-spec.js'
