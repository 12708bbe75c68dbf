#!lua
-- Takes back a task that a consumer could not do: it waits, or is dead.
--
-- KEYS[1] tasks    stream
-- KEYS[2] delayed  sorted set: id by the time from which it may be delivered again
-- KEYS[3] dead     stream of dead letters
-- ARGV[1] group
-- ARGV[2] consumer
-- ARGV[3] id
-- ARGV[4] delay    milliseconds until it may be delivered again; -1: it is dead
-- ARGV[5] tries    deliveries after which a task is dead
-- ARGV[6] letters  dead letters to keep
--
-- Returns 1 it waits, 2 it is dead, 0 it belongs to somebody else by now.
local group, consumer, id, delay = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local pending = redis.call('XPENDING', KEYS[1], group, id, id, 1, consumer)[1]
if not pending then
  return 0
end
if redis.call('ZSCORE', KEYS[2], id) then
  -- Asked again, because the answer was lost.
  return 1
end
if delay >= 0 and pending[4] < tonumber(ARGV[5]) then
  local time = redis.call('TIME')
  local due = time[1] * 1000 + math.floor(time[2] / 1000) + delay
  redis.call('ZADD', KEYS[2], string.format('%.0f', due), id)
  return 1
end
local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
if entry then
  local reason = 'deliveries'
  if delay < 0 then
    reason = 'unreadable'
  end
  redis.call('XADD', KEYS[3], 'MAXLEN', ARGV[6], '*', 'e', entry[2][2], 'group', group,
    'deliveries', pending[4], 'consumer', consumer, 'task', id, 'reason', reason)
end
redis.call('XACK', KEYS[1], group, id)
return 2
