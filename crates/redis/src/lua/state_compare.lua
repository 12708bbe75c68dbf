#!lua
-- Writes a value if the key holds what the caller expects.
--
-- KEYS[1] key
-- ARGV[1] what   1: it holds ARGV[2]; 0: it holds nothing
-- ARGV[2] expected
-- ARGV[3] value
-- ARGV[4] ttl    milliseconds; 0 for ever
--
-- Returns 1 if it was written, 0 if not.
local held = redis.call('GET', KEYS[1])
local as_expected = (ARGV[1] == '1' and held == ARGV[2]) or (ARGV[1] == '0' and not held)
if not as_expected then
  return 0
end
if ARGV[4] == '0' then
  redis.call('SET', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
end
return 1
