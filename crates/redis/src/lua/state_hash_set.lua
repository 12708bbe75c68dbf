#!lua
-- Writes a field of a hash, if there is room for it.
--
-- KEYS[1] key
-- ARGV[1] field
-- ARGV[2] value
-- ARGV[3] most fields
--
-- Returns 1 if it was written, 0 if there is no room.
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3])
    and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
