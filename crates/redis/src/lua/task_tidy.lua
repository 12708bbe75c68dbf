#!lua
-- Removes what no group needs any more, and consumers that died with nothing in
-- hand.
--
-- KEYS[1] tasks   stream
-- KEYS[2] groups  hash: when each group was last at work
-- ARGV[1] group      that is at work now
-- ARGV[2] group_ttl  milliseconds after which a group that nobody works for no
--                    longer holds tasks back
-- ARGV[3] dead_after milliseconds after which a silent consumer is dead
--
-- Returns {trimmed, removed}: tasks and consumers.
local function field(info, name)
  for i = 1, #info, 2 do
    if info[i] == name then
      return info[i + 1]
    end
  end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', now))

local removed = 0
for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  if field(info, 'pending') == 0 and field(info, 'idle') > tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], field(info, 'name'))
    removed = removed + 1
  end
end

-- The first task that somebody needs: unread by a group, or in work.
local needed
for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local name = field(info, 'name')
  local seen = redis.call('HGET', KEYS[2], name)
  if not seen then
    -- Made by somebody else, and new to us: its time begins now.
    seen = now
    redis.call('HSET', KEYS[2], name, string.format('%.0f', now))
  end
  if now - seen <= tonumber(ARGV[2]) then
    local first = tonumber(string.match(field(info, 'last-delivered-id'), '^%d+')) + 1
    local oldest = redis.call('XPENDING', KEYS[1], name)[2]
    if oldest then
      first = math.min(first, tonumber(string.match(oldest, '^%d+')))
    end
    needed = math.min(needed or first, first)
  end
end
local trimmed = 0
if needed then
  trimmed = redis.call('XTRIM', KEYS[1], 'MINID', '~', string.format('%.0f-0', needed))
end
return {trimmed, removed}
