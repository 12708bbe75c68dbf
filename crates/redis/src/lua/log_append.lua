-- Appends one frame to a channel's log and publishes it to those who listen.
--
-- A publisher numbers its frames upwards, and sends one again when it does not
-- know what became of it: what is in the log already is not appended twice. What
-- is published with a key is appended once, whoever publishes it.
--
-- KEYS[1] log       stream; an entry is a header and a frame, its id the offset of the
--                   last event
-- KEYS[2] meta      hash: epoch, offset; server, term, from:T and counted:T: see shared.lua
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
-- ARGV[15] server   names this run of the server; '' if that is not known
-- ARGV[16] term     in which something was confirmed to the publisher last
--
-- Returns {status, publisher, epoch, offset, number of the last event, term}: 1 appended,
-- offset of its last event; 0 it was there already; 2 somebody else published with this
-- key.
local count, number = tonumber(ARGV[2]), tonumber(ARGV[4])
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'offset', 'server', 'term')
local epoch, offset, term = meta[1], tonumber(meta[2] or 0), tonumber(meta[4] or 0)

local status, last = sent(KEYS[3], number, ARGV[3])
if status then
  return {status, ARGV[3], epoch or '', offset, last, term}
end

local server, lost = ARGV[15], nil
if not epoch then
  -- Meta was lost, by FLUSHALL or eviction. Offsets begin again, so that what an
  -- old log holds could not be told from what comes now.
  epoch, offset, term, meta = ARGV[7], 0, 0, {}
  redis.call('DEL', KEYS[1], KEYS[2])
else
  local ours = ARGV[5] == epoch
  local reached = ours and tonumber(ARGV[6]) or 0
  local its = ours and tonumber(ARGV[16])
  local missing = 0
  if ours and number > 0 then
    missing = math.max(tonumber(ARGV[14]) - last, 0)
  end
  local doubt = missing > 0 or reached > offset or (its or 0) > term
  if is_other(meta[3], server, doubt) then
    term = math.max(term, its or 0) + 1
    local from = offset
    if missing > 0 then
      -- Somebody who does not say where may have appended since.
      from = math.min(from, math.max(reached - missing, 0))
    end
    begin_term(KEYS[2], '', term, from)
  end
  -- Less than what was confirmed: writes are lost. As many offsets stay empty, and
  -- readers see the hole. All publishers' events of a term have offsets of one row,
  -- so what one has counted the next does not count again.
  local past, from, counted = parting(KEYS[2], '', its, term, reached)
  if past then
    local more = math.max(reached - counted, missing - (counted - from))
    if more > 0 then
      lost = {past, counted, counted + more}
      offset = offset + more
      count_lost(KEYS[2], '', past, counted + more)
    end
  else
    -- It is not known which server it was.
    offset = math.max(offset + (reached > offset and 0 or missing), reached)
  end
end

local header
local function append()
  local first = offset + 1
  offset = offset + count
  local id = string.format('%.0f-0', offset)
  local oldest = string.format('%.0f', math.max(offset - tonumber(ARGV[8]), 0) + 1)
  header = ARGV[12] .. epoch .. struct.pack('<I8I4I4', first, count, term)
    .. ARGV[7] .. ARGV[3] .. struct.pack('<I8', number)
  if lost then
    -- Of which term, and which of its offsets, the hole before this frame is.
    return redis.pcall('XADD', KEYS[1], 'MINID', '~', oldest, id, 'h', header, 'f', ARGV[1],
      'l', struct.pack('<I8I8I8', lost[1], lost[2], lost[3]))
  end
  return redis.pcall('XADD', KEYS[1], 'MINID', '~', oldest, id, 'h', header, 'f', ARGV[1])
end
local added = append()
if type(added) == 'table' and string.find(added.err, 'equal or smaller') then
  -- Somebody put back an older meta: as bad as none.
  epoch, offset, term, lost, meta = ARGV[7], 0, 0, nil, {}
  redis.call('DEL', KEYS[1], KEYS[2])
  added = append()
end
if type(added) == 'table' then
  return added
end
redis.call('PEXPIRE', KEYS[1], ARGV[9])
redis.call('HSET', KEYS[2], 'epoch', epoch, 'offset', string.format('%.0f', offset))
if server ~= '' and meta[3] ~= server then
  redis.call('HSET', KEYS[2], 'server', server)
end
redis.call('PEXPIRE', KEYS[2], ARGV[10])
if number == 0 then
  redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[11])
else
  redis.call('SET', KEYS[3], string.format('%.0f', number + count - 1), 'PX', ARGV[11])
end
redis.call(ARGV[13], KEYS[4], header)
redis.call(ARGV[13], KEYS[4], ARGV[1])
return {1, ARGV[3], epoch, offset, number + count - 1, term}
