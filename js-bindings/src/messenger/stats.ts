/** What a messenger has done since it joined. */

export interface MessengerStats {
  /** Messages sent, requests and answers included. */
  sent: number;
  /** Messages that could not be sent. */
  notSent: number;
  /** Messages received from others, answers not included. */
  received: number;
  /** Messages that were ignored because they were this messenger's own, or broadcasts of its own swarm. */
  own: number;
  /** Messages that no handler wanted. */
  unhandled: number;
  /** Messages whose deadline had passed. */
  expired: number;
  /** Calls of handlers that failed. */
  failed: number;
  /** Requests sent. */
  requests: number;
  /** Requests that were answered in time. */
  answered: number;
  /** Requests that nobody answered in time. */
  unanswered: number;
  /** Requests of this messenger that were refused. */
  refused: number;
  /** Answers that came when nobody waited for them any more. */
  lateAnswers: number;
  /** Answers given to others. */
  answers: number;
  /** Requests of others that were refused. */
  refusals: number;
  /** Tasks that were done. */
  tasksDone: number;
  /** Tasks that went wrong and were put back. */
  tasksFailed: number;
  /** Gaps in what was received. */
  gaps: number;
  /** Events that are missing in them, as far as that is known. */
  missed: number;
}

export function noStats(): MessengerStats {
  return {
    sent: 0,
    notSent: 0,
    received: 0,
    own: 0,
    unhandled: 0,
    expired: 0,
    failed: 0,
    requests: 0,
    answered: 0,
    unanswered: 0,
    refused: 0,
    lateAnswers: 0,
    answers: 0,
    refusals: 0,
    tasksDone: 0,
    tasksFailed: 0,
    gaps: 0,
    missed: 0,
  };
}
