-- What the bus accepted. Columns that a query looks at come first, the bytes last.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,        -- the order in which they were accepted
    id ANY NOT NULL,                -- the 16 bytes of a UUID, or text
    timestamp INTEGER NOT NULL,     -- microseconds since 1970
    event_type TEXT NOT NULL,
    source TEXT NOT NULL,
    priority INTEGER NOT NULL,      -- 0 lowest to 9 highest
    status INTEGER NOT NULL,        -- 0 pending, 1 delivered, 2 failed, 3 dead
    retry_count INTEGER NOT NULL,   -- how often it was offered again
    session TEXT,
    correlation_id ANY,             -- as id
    content INTEGER NOT NULL,       -- 0 binary, 1 MessagePack, 2 JSON, 3 text
    header BLOB,                    -- a frame without payload, if there are rarer fields
    payload BLOB NOT NULL
) STRICT;
CREATE INDEX events_by_time ON events (timestamp);
CREATE INDEX events_by_type ON events (event_type, timestamp);

-- Handlers that gave up. A letter has its event with it: it may outlive the
-- row in events, and an event that was dispatched has none.
CREATE TABLE dead_letters (
    letter INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,            -- microseconds since 1970
    event_id ANY NOT NULL,          -- as events.id
    event_type TEXT NOT NULL,
    handler TEXT NOT NULL,
    reason TEXT NOT NULL,
    error TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    event BLOB NOT NULL,            -- the event as a frame
    UNIQUE (event_id, handler)
) STRICT;

-- One row. No event before settled_below is pending.
CREATE TABLE log_state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    settled_below INTEGER NOT NULL,
    opened INTEGER NOT NULL
) STRICT;
INSERT INTO log_state VALUES (1, 1, 0);
