#!lua
-- Ends a lease.
--
-- KEYS[1] lease    string: TOKEN HOLDER
-- ARGV[1] held     TOKEN HOLDER of who asks
--
-- Returns 1, or 0 if it was not that holder's any more.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
