#!lua
-- Notes that tasks are done, for this group alone: no entry is deleted that another
-- group has yet to do.
--
-- KEYS[1] tasks    stream
-- KEYS[2] delayed  sorted set: id by the time from which it may be delivered again
-- ARGV[1] group
-- ARGV[2] …        ids
--
-- Returns how many were pending.
redis.call('ZREM', KEYS[2], unpack(ARGV, 2))
return redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 2))
