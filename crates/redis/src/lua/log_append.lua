#!lua
-- Appends one frame to a channel's log and publishes it to those who listen.
--
-- A publisher numbers its frames upwards, and sends one again when it does not
-- know what became of it: what is in the log already is not appended twice. What
-- is published with a key is appended once, whoever publishes it.
--
-- KEYS[1] log       stream; an entry is a header and a frame, its id the offset of the
--                   last event
-- KEYS[2] meta      hash: epoch, offset
-- KEYS[3] record    string: the number of this publisher's last event; of a key, who
--                   published with it
-- KEYS[4] live      pub/sub channel: the header is published, and then the frame. To
--                   join them here would be a third of the work
-- ARGV[1] frame     events, encoded
-- ARGV[2] count     how many events
-- ARGV[3] publisher 8 bytes
-- ARGV[4] number    of the frame's first event, counted by the publisher; of a key, 0
-- ARGV[5] known     the epoch in which something was confirmed to the publisher last, or ''
-- ARGV[6] reached   the highest offset that was confirmed to it in that epoch
-- ARGV[7] random    8 bytes: names this appending; the epoch, if a new one begins
-- ARGV[8] keep      events that the log holds
-- ARGV[9] log_ttl, ARGV[10] meta_ttl, ARGV[11] record_ttl   milliseconds
-- ARGV[12] prefix   what a header begins with
-- ARGV[13] command  PUBLISH or SPUBLISH
-- ARGV[14] before   the number of the last event that was confirmed to the publisher in
--                   that epoch, or 0
--
-- Returns {status, publisher, epoch, offset, number of the last event}: 1 appended, offset of its last event;
-- 0 it was there already; 2 somebody else published with this key.
local count, number = tonumber(ARGV[2]), tonumber(ARGV[4])
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'offset')
local epoch, offset = meta[1], tonumber(meta[2] or 0)

local record = redis.call('GET', KEYS[3])
if record and (number == 0 or number <= tonumber(record)) then
  local status = 0
  if number == 0 and record ~= ARGV[3] then
    status = 2
  end
  return {status, ARGV[3], epoch or '', offset, tonumber(number == 0 and 0 or record)}
end

if not epoch then
  -- Meta was lost, by FLUSHALL or eviction. Offsets begin again, so that what an
  -- old log holds could not be told from what comes now.
  epoch, offset = ARGV[7], 0
  redis.call('DEL', KEYS[1])
elseif ARGV[5] == epoch then
  -- Less than what was confirmed: writes are lost, by failover for example. Their
  -- offsets stay empty, and readers see the hole. If others have taken these offsets
  -- since, as many stay empty behind those.
  local missing = tonumber(ARGV[14] or 0) - tonumber(record or 0)
  if tonumber(ARGV[6]) > offset then
    offset = tonumber(ARGV[6])
  elseif number > 0 and missing > 0 then
    offset = offset + missing
  end
end

local header
local function append()
  local first = offset + 1
  offset = offset + count
  local id = string.format('%.0f-0', offset)
  local oldest = string.format('%.0f', math.max(offset - tonumber(ARGV[8]), 0) + 1)
  header = ARGV[12] .. epoch .. struct.pack('<I8I4I4', first, count, 0)
    .. ARGV[7] .. ARGV[3] .. struct.pack('<I8', number)
  return redis.pcall('XADD', KEYS[1], 'MINID', '~', oldest, id, 'h', header, 'f', ARGV[1])
end
-- The first write: refused when memory is short, and then nothing has changed.
local added = append()
if type(added) == 'table' and string.find(added.err, 'equal or smaller') then
  -- Somebody put back an older meta: as bad as none.
  epoch, offset = ARGV[7], 0
  redis.call('DEL', KEYS[1])
  added = append()
end
if type(added) == 'table' then
  return added
end
redis.call('PEXPIRE', KEYS[1], ARGV[9])
redis.call('HSET', KEYS[2], 'epoch', epoch, 'offset', string.format('%.0f', offset))
redis.call('PEXPIRE', KEYS[2], ARGV[10])
if number == 0 then
  redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[11])
else
  redis.call('SET', KEYS[3], string.format('%.0f', number + count - 1), 'PX', ARGV[11])
end
redis.call(ARGV[13], KEYS[4], header)
redis.call(ARGV[13], KEYS[4], ARGV[1])
return {1, ARGV[3], epoch, offset, number + count - 1}
