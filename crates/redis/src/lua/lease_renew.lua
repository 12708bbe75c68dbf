#!lua
-- Begins the time of a lease anew.
--
-- KEYS[1] lease    string: TOKEN HOLDER
-- ARGV[1] held     TOKEN HOLDER of who asks
-- ARGV[2] ttl      milliseconds
--
-- Returns 1, or 0 if it is not that holder's any more.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
