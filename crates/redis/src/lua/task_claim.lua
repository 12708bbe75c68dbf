#!lua
-- Gives a consumer tasks that were delivered before: those whose delay is over,
-- and those that nobody has worked on for a while; or, by their ids, those that it
-- was given itself and does not know of, because the answer was lost. What was
-- delivered too often goes to the dead letters instead.
--
-- KEYS[1] tasks    stream
-- KEYS[2] delayed  sorted set: id by the time from which it may be delivered again
-- KEYS[3] dead     stream of dead letters
-- ARGV[1] group
-- ARGV[2] consumer
-- ARGV[3] idle     milliseconds without work after which a task counts as left
-- ARGV[4] most     tasks to take, at least 1
-- ARGV[5] tries    deliveries after which a task is dead
-- ARGV[6] letters  dead letters to keep
-- ARGV[7] cursor   '-' or what the last call returned
-- ARGV[8] …        ids
--
-- Returns {cursor, wait, lost, dead, {id, deliveries, event, id, …}}: cursor is '-'
-- when the whole list was seen; wait is how many milliseconds the next delay lasts, or
-- -1; lost tasks were trimmed while they waited.
local group, consumer, most, tries = ARGV[1], ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5])
local taken, lost, dead = {}, 0, 0
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function take(id, owner, deliveries)
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  if not entry then
    redis.call('XACK', KEYS[1], group, id)
    lost = lost + 1
  elseif deliveries >= tries then
    redis.call('XADD', KEYS[3], 'MAXLEN', ARGV[6], '*', 'e', entry[2][2], 'group', group,
      'deliveries', deliveries, 'consumer', owner, 'task', id, 'reason', 'deliveries')
    redis.call('XACK', KEYS[1], group, id)
    dead = dead + 1
  else
    -- Counts one delivery more.
    redis.call('XCLAIM', KEYS[1], group, consumer, 0, id)
    table.insert(taken, id)
    table.insert(taken, deliveries + 1)
    table.insert(taken, entry[2][2])
  end
end

if ARGV[8] then
  for i = 8, #ARGV do
    local pending = redis.call('XPENDING', KEYS[1], group, ARGV[i], ARGV[i], 1, consumer)[1]
    if pending and not redis.call('ZSCORE', KEYS[2], ARGV[i]) then
      take(pending[1], pending[2], pending[4])
    end
  end
  return {'-', -1, lost, dead, taken}
end

local due = redis.call('ZRANGE', KEYS[2], '-inf', string.format('%.0f', now), 'BYSCORE', 'LIMIT', 0, most)
for _, id in ipairs(due) do
  redis.call('ZREM', KEYS[2], id)
  local pending = redis.call('XPENDING', KEYS[1], group, id, id, 1)[1]
  if pending then
    take(id, pending[2], pending[4])
  end
end

local cursor, left = ARGV[7], most - #taken / 3
if left > 0 then
  local page = redis.call('XPENDING', KEYS[1], group, 'IDLE', ARGV[3], cursor, '+', left)
  cursor = '-'
  if #page == left then
    cursor = '(' .. page[#page][1]
  end
  for _, pending in ipairs(page) do
    if not redis.call('ZSCORE', KEYS[2], pending[1]) then
      take(pending[1], pending[2], pending[4])
    end
  end
end
local wait, next = -1, redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
if next[2] then
  wait = math.max(tonumber(next[2]) - now, 0)
end
return {cursor, wait, lost, dead, taken}
