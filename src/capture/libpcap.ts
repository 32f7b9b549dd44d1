import koffi from 'koffi'

/** What `pcap_lib_version(3PCAP)` says; undefined where libpcap is not installed. */
export function libpcapVersion(): string | undefined {
  try {
    const version: unknown = koffi.load('libpcap.so.0.8').func('const char *pcap_lib_version()')()
    return typeof version === 'string' ? version.replace(/^libpcap version /, '') : undefined
  } catch {
    return undefined
  }
}
