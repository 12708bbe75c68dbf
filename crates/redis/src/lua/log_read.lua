#!lua
-- One page of a channel's log, and where the log ends, at one moment. Gives the
-- channel an epoch if it has none, so that a reader who waits for the first event
-- notices when all is lost.
--
-- KEYS[1] log   stream; an entry is a frame, its id the offset of its last event
-- KEYS[2] meta  hash: epoch, offset
-- ARGV[1] from      frames that end at this offset or later, oldest first; or +: the
--                   newest first
-- ARGV[2] frames    how many at most; 0 for none
-- ARGV[3] fresh     8 random bytes: the epoch, if a new one begins
-- ARGV[4] meta_ttl  milliseconds
--
-- Returns {epoch, offset, entries}.
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'offset')
if not meta[1] then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[2], 'epoch', ARGV[3], 'offset', '0')
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
  return {ARGV[3], 0, {}}
end
local entries = {}
if ARGV[1] == '+' then
  entries = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[2])
elseif ARGV[2] ~= '0' then
  entries = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
end
return {meta[1], tonumber(meta[2]), entries}
