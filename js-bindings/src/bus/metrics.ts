/** Metrics: the ledger's counts under the names that Prometheus gets, and times, sampled. */

import type { Outcomes } from './ledger.js';

/** A distribution in seconds, of sampled values. */
export interface Histogram {
  /** How many were measured. */
  readonly count: number;
  /** Of all of them, in seconds. */
  readonly sum: number;
  /** The longest, in seconds. */
  readonly max: number;
}

/** Counters, gauges and histograms of one bus, by name. */
export interface BusMetrics {
  /** Events accepted. */
  readonly events_published_total: number;
  /** Handler calls that succeeded. */
  readonly events_processed_total: number;
  /** Handler calls that failed. */
  readonly events_failed_total: number;
  /** Matches stopped by an open breaker. */
  readonly events_rejected_total: number;
  /** Matches that found a full bulkhead, or waited too long for it. */
  readonly events_rejected_by_bulkhead_total: number;
  /** Matches beyond a rate limit. */
  readonly events_rate_limited_total: number;
  /** Matches left out of a sample. */
  readonly events_sampled_out_total: number;
  /** Matches that a fallback handled. */
  readonly events_fell_back_total: number;
  /** Matches whose event had come back. */
  readonly events_looped_total: number;
  /** Handler calls after the first. */
  readonly event_retries_total: number;
  /** Handler calls that took too long. */
  readonly handler_timeouts_total: number;
  /** Those of them that had to be given up. */
  readonly handler_aborts_total: number;
  /** Matches that wait for a retry, in a bulkhead or for an iterator. */
  readonly detached_calls: number;
  /** Handlers that a fallback stands in for. */
  readonly degraded_handlers: number;
  /** Matches dropped by an overflow policy. */
  readonly events_dropped_total: number;
  /** Matches whose deadline had passed. */
  readonly events_expired_total: number;
  /** Events handed back to their publisher. */
  readonly events_refused_total: number;
  /** Time until all handlers of an event had returned, sampled. */
  readonly event_processing_duration_seconds: Histogram;
  /** Events that wait. */
  readonly queue_size: number;
  /** 1 while the queue is above its high-water mark. */
  readonly backpressure_active: number;
  /** Dead letters that wait. */
  readonly dead_letter_queue_size: number;
}

/** Times one event in so many. */
export class Sampler {
  private count = 0;
  private sum = 0;
  private max = 0;
  private until: number;

  constructor(private readonly every: number) {
    this.until = every;
  }

  /** Whether this one is to be timed. */
  due(): boolean {
    if (--this.until !== 0) return false;
    this.until = this.every;
    return true;
  }

  record(millis: number): void {
    const seconds = millis / 1_000;
    this.count++;
    this.sum += seconds;
    if (seconds > this.max) this.max = seconds;
  }

  histogram(): Histogram {
    return { count: this.count, sum: this.sum, max: this.max };
  }
}

/** What a bus counts elsewhere. */
export interface Counted {
  readonly published: number;
  readonly refused: number;
  readonly detached: number;
  readonly outcomes: Outcomes;
  readonly retries: number;
  readonly timedOut: number;
  readonly abandoned: number;
  readonly depth: number;
  readonly pressed: boolean;
  readonly deadLetters: number;
  readonly degraded: number;
  readonly processing: Histogram;
}

export function metricsOf(counted: Counted): BusMetrics {
  const { outcomes } = counted;
  return {
    events_published_total: counted.published,
    events_processed_total: outcomes.delivered,
    events_failed_total: outcomes.failed + outcomes.deadLettered,
    events_rejected_total: outcomes.rejectedByBreaker,
    events_rejected_by_bulkhead_total: outcomes.rejectedByBulkhead,
    events_rate_limited_total: outcomes.rejectedByRateLimit,
    events_sampled_out_total: outcomes.sampledOut,
    events_fell_back_total: outcomes.fellBack,
    events_looped_total: outcomes.looped,
    event_retries_total: counted.retries,
    handler_timeouts_total: counted.timedOut,
    handler_aborts_total: counted.abandoned,
    detached_calls: counted.detached,
    degraded_handlers: counted.degraded,
    events_dropped_total: outcomes.droppedOldest + outcomes.droppedLowest,
    events_expired_total: outcomes.expired,
    events_refused_total: counted.refused,
    event_processing_duration_seconds: counted.processing,
    queue_size: counted.depth,
    backpressure_active: counted.pressed ? 1 : 0,
    dead_letter_queue_size: counted.deadLetters,
  };
}
