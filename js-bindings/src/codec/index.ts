/**
 * The codec: events to frames and back, looks at headers, forwarding.
 */

export { calibrate } from './calibrate.js';
export type { Changes } from './changes.js';
export { decode, decodeBatch, type DecodeOptions } from './decode.js';
export { encode, encodeBatch, type Encodable, type EncodeOptions } from './encode.js';
export {
  DecodeError,
  EncodeError,
  PayloadError,
  type DecodeErrorCode,
  type EncodeErrorCode,
  type Field,
  type PayloadErrorCode,
} from './error.js';
export { Extension, typedArray, type TypedArrayClass } from './extension.js';
export { forward } from './forward.js';
export { FrameWriter } from './frame-writer.js';
export { FrameReader, frameLength, peek, peekBatch } from './frame.js';
export { DEFAULT_LIMITS, MAX_HOP_LEN, MAX_TYPE_LEN, type Limits } from './limits.js';
export { configureCodec, metrics, type CodecMetrics, type CodecSettings } from './metrics.js';
export { Payload, type Content } from './payload.js';
export {
  configurePick,
  pick,
  Picker,
  shapeOf,
  type Format,
  type Performance,
  type PickerSettings,
  type Shape,
} from './pick.js';
export { routeBatch, TypeTable } from './route.js';
export type { EventView } from './view.js';
