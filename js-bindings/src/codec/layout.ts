/**
 * Where each field of a frame lies: ADR 0002. All integers are little-endian.
 */

/** The first four bytes, C1 'S' 'W' 'B', as a little-endian number. */
export const MAGIC = 0x42_57_53_c1;
export const VERSION = 1;
export const FRAME_HEADER = 16;
export const RECORD_HEADER = 64;

/** Offsets within a frame's header. */
export const frame = { VERSION: 4, FLAGS: 6, COUNT: 8, LEN: 12 } as const;

/** Offsets within a record's header. */
export const record = {
  LEN: 0,
  FLAGS: 4,
  PRIORITY: 6,
  CONTENT: 7,
  TYPE_HASH: 8,
  TIMESTAMP: 16,
  NONCE: 24,
  DEADLINE: 32,
  TYPE_LEN: 40,
  HOP_COUNT: 41,
  SOURCE_LEN: 42,
  ID_LEN: 44,
  TARGET_LEN: 46,
  SESSION_LEN: 48,
  CORRELATION_LEN: 50,
  CAUSATION_LEN: 52,
  TRACEPARENT_LEN: 54,
  HOPS_LEN: 56,
  ATTRIBUTE_COUNT: 58,
  ATTRIBUTES_LEN: 60,
} as const;

/** Bits of a record's flags. */
export const flag = {
  ID: 1,
  ID_UUID: 1 << 1,
  TARGET: 1 << 2,
  TARGET_SWARM: 1 << 3,
  SESSION: 1 << 4,
  CORRELATION: 1 << 5,
  CORRELATION_UUID: 1 << 6,
  CAUSATION: 1 << 7,
  CAUSATION_UUID: 1 << 8,
  TRACEPARENT: 1 << 9,
  ALL: (1 << 10) - 1,
} as const;

/** The latest time that fits, as its two halves. */
export const MAX_TIME_HIGH = Math.floor(253_402_207_199_999_999 / 2 ** 32);
const MAX_TIME_LOW = Number(253_402_207_199_999_999n & 0xffff_ffffn);

/** Whether a time of these halves lies after 9999-12-30T21:59:59.999999Z. */
export function isTooLate(low: number, high: number): boolean {
  return high > MAX_TIME_HIGH || (high === MAX_TIME_HIGH && low > MAX_TIME_LOW);
}
