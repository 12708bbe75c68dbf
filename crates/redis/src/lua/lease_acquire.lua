#!lua
-- Grants a lease if it is free, or to who has it already.
--
-- A token is the server's time in microseconds, or one more than the last if
-- that is higher. So tokens grow as long as one of the two is remembered: the
-- last token is not lost, or the clock is not set back.
--
-- KEYS[1] lease    string: TOKEN HOLDER
-- KEYS[2] token    the last one, of all leases of this store
-- ARGV[1] holder
-- ARGV[2] ttl      milliseconds
--
-- Returns {1, token} (a text: it has more digits than a float), or {0, what is
-- left of somebody else's time in milliseconds}.
local held = redis.call('GET', KEYS[1])
if held then
  local token, holder = string.match(held, '^(%d+) (.*)$')
  if holder == ARGV[1] then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return {1, token}
  end
  return {0, redis.call('PTTL', KEYS[1])}
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local last = tonumber(redis.call('GET', KEYS[2]) or '0') or 0
-- Below 2^53, numbers of Lua are exact: until the year 2255.
local token = string.format('%.0f', math.max(last + 1, now))
redis.call('SET', KEYS[2], token)
redis.call('SET', KEYS[1], token .. ' ' .. ARGV[1], 'PX', ARGV[2])
return {1, token}
