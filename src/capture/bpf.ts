import { littleEndian } from '../lib/byte-order.js'

/** One instruction of classic BPF (`<linux/filter.h>`); a jump goes to labels, or where it names none to the next instruction. */
export type Instruction =
  | { readonly code: number; readonly k?: number; readonly to?: string; readonly otherwise?: string }
  | { readonly label: string }

/** <linux/bpf_common.h> */
const LD_W_ABS = 0x20
const LD_H_IND = 0x48
const LD_B_IND = 0x50
const LD_W_IND = 0x40
const LDX_IMM = 0x01
const JEQ = 0x15
const JSET = 0x45
const JA = 0x05
const RET = 0x06
const AND = 0x54
const LSH = 0x64
const ADD_X = 0x0c
const TAX = 0x07

/** Offsets that stand for what the kernel knows of a frame beside its bytes. */
const SKF_AD_OFF = 0xfffff000
const SKF_AD_PKTTYPE = 4
const SKF_AD_IFINDEX = 8

/** Into A: a word, half word or byte of the frame at X + `offset`; a frame that ends before it is dropped. */
export const loadWord = (offset: number): Instruction => ({ code: LD_W_IND, k: offset })
export const loadHalf = (offset: number): Instruction => ({ code: LD_H_IND, k: offset })
export const loadByte = (offset: number): Instruction => ({ code: LD_B_IND, k: offset })
/** Into A: PACKET_OUTGOING and the like. */
export const loadPacketType: Instruction = { code: LD_W_ABS, k: SKF_AD_OFF + SKF_AD_PKTTYPE }
export const loadInterface: Instruction = { code: LD_W_ABS, k: SKF_AD_OFF + SKF_AD_IFINDEX }
export const setX = (value: number): Instruction => ({ code: LDX_IMM, k: value })
export const and = (mask: number): Instruction => ({ code: AND, k: mask })
export const shiftLeft = (bits: number): Instruction => ({ code: LSH, k: bits })
export const addX: Instruction = { code: ADD_X }
export const moveToX: Instruction = { code: TAX }
export const jump = (to: string): Instruction => ({ code: JA, to })
export const at = (label: string): Instruction => ({ label })
/** Hands over so many bytes of the frame; 0 drops it. */
export const give = (bytes: number): Instruction => ({ code: RET, k: bytes })

/** Compares A with a value. */
export function ifEqual(value: number, to: string, otherwise?: string): Instruction {
  return { code: JEQ, k: value, to, ...(otherwise !== undefined && { otherwise }) }
}

/** Whether A has any bit of a mask. */
export function ifAny(mask: number, to: string): Instruction {
  return { code: JSET, k: mask, to }
}

/** `struct sock_filter`: code, jump if true, jump if false, k. */
const instructionBytes = 8

/** Instructions as SO_ATTACH_FILTER takes them. Throws on a label that is missing, or too far for a conditional jump. */
export function assemble(instructions: readonly Instruction[]): Uint8Array {
  const places = new Map<string, number>()
  const code = instructions.flatMap(instruction => ('label' in instruction ? [] : [instruction]))
  let next = 0
  for (const instruction of instructions) {
    if ('label' in instruction) places.set(instruction.label, next)
    else next++
  }
  const program = new Uint8Array(code.length * instructionBytes)
  const view = new DataView(program.buffer)
  for (const [index, { code: operation, k = 0, to, otherwise }] of code.entries()) {
    const distance = (label: string | undefined) =>
      label === undefined ? 0 : (places.get(label) ?? Number.NaN) - index - 1
    const isFar = operation === JA
    const [near, other] = isFar ? [0, 0] : [distance(to), distance(otherwise)]
    const target = isFar ? distance(to) : k
    if (!(near >= 0 && near <= 255 && other >= 0 && other <= 255 && target >= 0)) {
      throw new RangeError(`a jump to ${to} or ${otherwise} cannot be made`)
    }
    view.setUint16(index * instructionBytes, operation, littleEndian)
    view.setUint8(index * instructionBytes + 2, near)
    view.setUint8(index * instructionBytes + 3, other)
    view.setUint32(index * instructionBytes + 4, target, littleEndian)
  }
  return program
}
