-- When somebody asked for a letter to be retried: whoever has the log as its
-- journal does it. NULL if nobody did.
ALTER TABLE dead_letters ADD COLUMN retry_at INTEGER;
CREATE INDEX dead_letters_to_retry ON dead_letters (letter) WHERE retry_at IS NOT NULL;

-- What handlers did, if a program records it: calls, and how an event ended
-- for a handler if not by a call that succeeded.
CREATE TABLE calls (
    call INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,            -- microseconds since 1970: when a call began
    took INTEGER NOT NULL,          -- microseconds; 0 for an end
    event_id ANY NOT NULL,          -- as events.id
    event_type TEXT NOT NULL,
    priority INTEGER NOT NULL,
    handler TEXT NOT NULL,
    result INTEGER NOT NULL         -- 0 succeeded, 1 failed; ends: 2 dead letter, 3 given up,
                                    -- 4 rejected by the breaker, 5 in another layer
) STRICT;
CREATE INDEX calls_by_time ON calls (at);
