/**
 * 64-bit numbers that only have to be equal or not, as 16 hexadecimal digits; and those that count,
 * as numbers, which end at 2^53.
 */

import { randomBytes } from 'node:crypto';

/** A random word. */
export function randomWord(): string {
  return randomBytes(8).toString('hex');
}

/** Its bytes, little-endian. */
export function wordToBytes(word: string): Buffer {
  return Buffer.from(word, 'hex').reverse();
}

/** The word in 8 bytes, little-endian. */
export function wordAt(bytes: Buffer, at: number): string {
  let word = '';
  for (let i = at + 7; i >= at; i -= 1) word += HEX[bytes[i] as number] as string;
  return word;
}

const HEX: readonly string[] = Array.from({ length: 256 }, (_, n) =>
  n.toString(16).padStart(2, '0'),
);

/** A count in 8 bytes, little-endian; `undefined` if it is above 2^53 - 1. */
export function countAt(bytes: Buffer, at: number): number | undefined {
  const high = bytes.readUInt32LE(at + 4);
  return high > 0x1f_ffff ? undefined : high * 0x1_0000_0000 + bytes.readUInt32LE(at);
}

export function writeCount(bytes: Buffer, at: number, count: number): void {
  bytes.writeUInt32LE(count % 0x1_0000_0000, at);
  bytes.writeUInt32LE(Math.floor(count / 0x1_0000_0000), at + 4);
}

/** A view of the bytes as a Buffer, without a copy. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
