/** What the kernel knows of a frame beside its bytes. */
export interface FrameFacts {
  readonly device: number
  readonly outgoing: boolean
}

/** Runs classic BPF (`<linux/filter.h>`) on a frame: bytes that it lets through. Throws on an instruction it does not know. */
export function runFilter(program: Uint8Array, frame: Buffer, facts: FrameFacts): number {
  const code = new DataView(program.buffer, program.byteOffset, program.length)
  const known = new Map([
    [0xfffff000 + 4, facts.outgoing ? 4 : 0],
    [0xfffff000 + 8, facts.device],
  ])
  let [a, x] = [0, 0]
  for (let at = 0; at < program.length; at += 8) {
    const [operation, k] = [code.getUint16(at, true), code.getUint32(at + 4, true)]
    const branch = (holds: boolean) => {
      at += 8 * code.getUint8(at + (holds ? 2 : 3))
    }
    const load = (bytes: number): boolean => {
      if (x + k + bytes > frame.length) return false
      a = frame.readUIntBE(x + k, bytes)
      return true
    }
    switch (operation) {
      // BPF_LD | BPF_W | BPF_ABS, of the ancillary data
      case 0x20: {
        const fact = known.get(k)
        if (fact === undefined) throw new Error(`no word at ${k}`)
        a = fact
        break
      }
      // BPF_LD | BPF_W | BPF_IND
      case 0x40:
        if (!load(4)) return 0
        break
      // BPF_LD | BPF_H | BPF_IND
      case 0x48:
        if (!load(2)) return 0
        break
      // BPF_LD | BPF_B | BPF_IND
      case 0x50:
        if (!load(1)) return 0
        break
      // BPF_LDX | BPF_IMM
      case 0x01:
        x = k
        break
      // BPF_MISC | BPF_TAX
      case 0x07:
        x = a
        break
      // BPF_ALU | BPF_ADD | BPF_X
      case 0x0c:
        a = (a + x) >>> 0
        break
      // BPF_ALU | BPF_AND | BPF_K
      case 0x54:
        a = (a & k) >>> 0
        break
      // BPF_ALU | BPF_LSH | BPF_K
      case 0x64:
        a = (a << k) >>> 0
        break
      // BPF_JMP | BPF_JA
      case 0x05:
        at += 8 * k
        break
      // BPF_JMP | BPF_JEQ | BPF_K
      case 0x15:
        branch(a === k)
        break
      // BPF_JMP | BPF_JSET | BPF_K
      case 0x45:
        branch((a & k) !== 0)
        break
      // BPF_RET | BPF_K
      case 0x06:
        return k
      default:
        throw new Error(`no instruction 0x${operation.toString(16)}`)
    }
  }
  throw new Error('it ran off its end')
}
