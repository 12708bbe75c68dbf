/**
 * Ids: a canonical UUID travels as 16 bytes, any other text as it is.
 */

/** The value of each lower-case hexadecimal digit by its character code, -1 for all others. */
const DIGIT = new Int8Array(128).fill(-1);
const HEX: string[] = [];
for (let value = 0; value < 256; value++) {
  HEX.push(value.toString(16).padStart(2, '0'));
  if (value < 16) DIGIT[value.toString(16).charCodeAt(0)] = value;
}

/** The number of four digits; negative if they are none. */
function four(text: string, at: number): number {
  const a = text.charCodeAt(at);
  const b = text.charCodeAt(at + 1);
  const c = text.charCodeAt(at + 2);
  const d = text.charCodeAt(at + 3);
  if ((a | b | c | d) > 127) return -1;
  return (DIGIT[a]! << 12) | (DIGIT[b]! << 8) | (DIGIT[c]! << 4) | DIGIT[d]!;
}

function eight(view: DataView, at: number, high: number, low: number): number {
  view.setInt32(at, (high << 16) | low);
  return high | low;
}

/** Writes the 16 bytes of a canonical UUID; `false`, and perhaps some bytes, when it is none. */
export function writeUuid(view: DataView, at: number, text: string): boolean {
  if (
    text.length !== 36 ||
    text.charCodeAt(8) !== 45 ||
    text.charCodeAt(13) !== 45 ||
    text.charCodeAt(18) !== 45 ||
    text.charCodeAt(23) !== 45
  ) {
    return false;
  }
  const first = eight(view, at, four(text, 0), four(text, 4));
  const second = eight(view, at + 4, four(text, 9), four(text, 14));
  const third = eight(view, at + 8, four(text, 19), four(text, 24));
  return (first | second | third | eight(view, at + 12, four(text, 28), four(text, 32))) >= 0;
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
const scratchView = new DataView(scratch.buffer);

/** Whether this is the text of a UUID as it is written back. */
export function isUuid(text: string): boolean {
  return writeUuid(scratchView, 0, text);
}

/** The UUIDv7 of a stamp: milliseconds, their fraction in 12 bits, 62 bits of nonce. */
export function uuidV7(micros: bigint, nonce: bigint): string {
  const fraction = ((micros % 1000n) * 4096n) / 1000n;
  scratchView.setBigUint64(
    0,
    BigInt.asUintN(64, ((micros / 1000n) << 16n) | (7n << 12n) | fraction),
  );
  scratchView.setBigUint64(8, (2n << 62n) | (nonce & ((1n << 62n) - 1n)));
  return readUuid(scratch, 0);
}
