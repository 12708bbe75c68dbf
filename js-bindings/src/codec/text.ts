/**
 * Text to UTF-8 and back. Node's Buffer does it fastest; where there is none,
 * the web's encoders do the same.
 */

/** The methods of Node's Buffer that `@types/node` does not list. */
interface NodeBytes extends Uint8Array {
  utf8Write(text: string, at: number): number;
  latin1Slice(start: number, end: number): string;
  utf8Slice(start: number, end: number): string;
}

interface NodeBufferClass {
  allocUnsafeSlow(len: number): NodeBytes;
  from(buffer: ArrayBufferLike, at: number, len: number): NodeBytes;
  prototype: NodeBytes;
}

const NodeBuffer = (globalThis as unknown as { Buffer?: NodeBufferClass }).Buffer;

/** Whether there is a Buffer with the methods wanted here. */
const HAS_BUFFER =
  NodeBuffer !== undefined &&
  typeof NodeBuffer.allocUnsafeSlow === 'function' &&
  typeof NodeBuffer.prototype.utf8Write === 'function' &&
  typeof NodeBuffer.prototype.latin1Slice === 'function' &&
  typeof NodeBuffer.prototype.utf8Slice === 'function';

const encoder = new TextEncoder();
/** Keeps a byte order mark, as it is part of the text, and throws at what is not UTF-8. */
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Memory with unspecified contents: a Buffer in Node. */
export function allocate(len: number): Uint8Array<ArrayBuffer> {
  return (
    HAS_BUFFER ? NodeBuffer!.allocUnsafeSlow(len) : new Uint8Array(len)
  ) as Uint8Array<ArrayBuffer>;
}

/** The same memory, as a Buffer in Node: that has the fast methods. */
export function viewOf(bytes: Uint8Array): Uint8Array {
  if (!HAS_BUFFER || 'latin1Slice' in bytes) return bytes;
  return NodeBuffer!.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Writes UTF-8 and returns its bytes; a lone surrogate becomes U+FFFD. There
 * must be room for 3 bytes for each UTF-16 unit. `bytes` comes from
 * {@link allocate} or {@link viewOf}.
 */
export const writeUtf8: (bytes: Uint8Array, at: number, text: string) => number = HAS_BUFFER
  ? (bytes, at, text) => (bytes as NodeBytes).utf8Write(text, at)
  : (bytes, at, text) => encoder.encodeInto(text, bytes.subarray(at)).written;

/** ASCII to a string. `bytes` comes from {@link allocate} or {@link viewOf}. */
export const readAscii: (bytes: Uint8Array, start: number, end: number) => string = HAS_BUFFER
  ? (bytes, start, end) => (bytes as NodeBytes).latin1Slice(start, end)
  : (bytes, start, end) => decoder.decode(bytes.subarray(start, end));

/** What is known to be UTF-8 to a string. `bytes` comes from {@link allocate} or {@link viewOf}. */
export const readChecked: (bytes: Uint8Array, start: number, end: number) => string = HAS_BUFFER
  ? (bytes, start, end) => (bytes as NodeBytes).utf8Slice(start, end)
  : (bytes, start, end) => decoder.decode(bytes.subarray(start, end));

/** UTF-8 to a string, or `undefined` when it is none. */
export function readUtf8(bytes: Uint8Array, start: number, end: number): string | undefined {
  if (end - start <= 24) {
    // A call out of JavaScript costs more than reading a few characters here.
    let text = '';
    for (let at = start; at < end; at++) {
      const byte = bytes[at]!;
      if (byte > 127) return readLong(bytes, start, end);
      text += String.fromCharCode(byte);
    }
    return text;
  }
  return readLong(bytes, start, end);
}

function readLong(bytes: Uint8Array, start: number, end: number): string | undefined {
  if (HAS_BUFFER) {
    let seen = 0;
    for (let at = start; at < end; at++) seen |= bytes[at]!;
    if (seen < 128) return NodeBuffer!.prototype.latin1Slice.call(bytes, start, end);
  }
  try {
    return decoder.decode(bytes.subarray(start, end));
  } catch {
    return undefined;
  }
}

/** The bytes that a text takes as UTF-8. */
export function utf8Length(text: string): number {
  let length = text.length;
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    if (unit < 0x80) continue;
    // A pair of surrogates takes 4 bytes, a lone one 3 as U+FFFD.
    length += unit < 0x800 ? 1 : 2;
    if (unit >= 0xd800 && unit < 0xdc00) {
      const next = text.charCodeAt(at + 1);
      if (next >= 0xdc00 && next < 0xe000) at++;
    }
  }
  return length;
}
