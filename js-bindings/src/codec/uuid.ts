/**
 * Ids: a canonical UUID travels as 16 bytes, any other text as it is.
 */

/** Stands for a character that is no digit: beyond what two digits can make. */
const NONE = 0x100;
/** The value of each lower-case hexadecimal digit by its character code. */
const DIGIT = new Uint16Array(128).fill(NONE);
const HEX: string[] = [];
for (let value = 0; value < 256; value++) {
  HEX.push(value.toString(16).padStart(2, '0'));
  if (value < 16) DIGIT[value.toString(16).charCodeAt(0)] = value;
}

/** Where the 16 bytes stand in the text. */
const AT = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/** Writes the 16 bytes of a canonical UUID; `false`, and perhaps some bytes, when it is none. */
export function writeUuid(bytes: Uint8Array, at: number, text: string): boolean {
  if (
    text.length !== 36 ||
    text.charCodeAt(8) !== 45 ||
    text.charCodeAt(13) !== 45 ||
    text.charCodeAt(18) !== 45 ||
    text.charCodeAt(23) !== 45
  ) {
    return false;
  }
  let bad = 0;
  for (let i = 0; i < 16; i++) {
    const place = AT[i]!;
    const high = text.charCodeAt(place);
    const low = text.charCodeAt(place + 1);
    if ((high | low) > 127) return false;
    const pair = (DIGIT[high]! << 4) | DIGIT[low]!;
    bad |= pair;
    bytes[at + i] = pair;
  }
  return bad < NONE;
}

/** The canonical text of 16 bytes. */
export function readUuid(bytes: Uint8Array, at: number): string {
  let text = '';
  for (let i = 0; i < 16; i++) {
    if (i === 4 || i === 6 || i === 8 || i === 10) text += '-';
    text += HEX[bytes[at + i]!]!;
  }
  return text;
}

const scratch = new Uint8Array(16);

/** Whether this is the text of a UUID as it is written back. */
export function isUuid(text: string): boolean {
  return writeUuid(scratch, 0, text);
}

/** The UUIDv7 of a stamp: milliseconds, their fraction in 12 bits, 62 bits of nonce. */
export function uuidV7(micros: bigint, nonce: bigint): string {
  const view = new DataView(scratch.buffer);
  const fraction = ((micros % 1000n) * 4096n) / 1000n;
  view.setBigUint64(0, BigInt.asUintN(64, ((micros / 1000n) << 16n) | (7n << 12n) | fraction));
  view.setBigUint64(8, (2n << 62n) | (nonce & ((1n << 62n) - 1n)));
  return readUuid(scratch, 0);
}
