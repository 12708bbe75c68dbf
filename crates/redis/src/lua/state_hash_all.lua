#!lua
-- All fields of a hash, if there are not too many.
--
-- KEYS[1] key
-- ARGV[1] most fields
--
-- Returns fields and values in turn, or 0 if there are too many.
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[1]) then
  return 0
end
return redis.call('HGETALL', KEYS[1])
