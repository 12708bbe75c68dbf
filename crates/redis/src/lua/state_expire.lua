#!lua
-- Gives a key another time to live.
--
-- KEYS[1] key
-- ARGV[1] ttl    milliseconds; 0 for ever
--
-- Returns 1 if there is such a key, 0 if not.
if ARGV[1] ~= '0' then
  return redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
redis.call('PERSIST', KEYS[1])
return redis.call('EXISTS', KEYS[1])
