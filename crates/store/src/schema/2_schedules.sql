-- Scheduled events of the bus, as they stand.
CREATE TABLE schedules (
    id TEXT PRIMARY KEY,
    plan TEXT NOT NULL,             -- at, after, every, cron
    micros INTEGER,                 -- at: since 1970; after, every: how long
    cron TEXT,
    missed TEXT NOT NULL,           -- fire_once, skip, fire_all
    missed_limit INTEGER,           -- of fire_all
    next INTEGER NOT NULL,          -- microseconds since 1970
    event BLOB NOT NULL             -- a frame
) STRICT;
