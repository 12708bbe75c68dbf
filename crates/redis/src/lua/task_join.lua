#!lua
-- Makes a group if it is not there, and says what it missed.
--
-- KEYS[1] tasks   stream
-- KEYS[2] groups  hash: when each group was last at work
-- ARGV[1] group
-- ARGV[2] start   where a new group begins: 0 or $
--
-- Returns {created, missed}: created is 1 if the group is new; missed tasks were
-- trimmed before the group had read them.
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], ARGV[2], 'MKSTREAM')
if type(made) == 'table' and made.err and not string.find(made.err, 'BUSYGROUP') then
  return made
end
local time = redis.call('TIME')
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
if not made.err then
  return {1, 0}
end

local function field(info, name)
  for i = 1, #info, 2 do
    if info[i] == name then
      return info[i + 1]
    end
  end
end

local read = 0
for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  if field(info, 'name') == ARGV[1] then
    read = tonumber(string.match(field(info, 'last-delivered-id'), '^%d+'))
  end
end
-- Ids are numbers without holes, so the first that is left tells.
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local before
if first then
  before = tonumber(string.match(first[1], '^%d+')) - 1
else
  before = tonumber(string.match(field(redis.call('XINFO', 'STREAM', KEYS[1]), 'last-generated-id'), '^%d+'))
end
if before <= read then
  return {0, 0}
end
redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], string.format('%.0f-0', before))
return {0, before - read}
