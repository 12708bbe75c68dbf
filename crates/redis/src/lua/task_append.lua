-- Appends events to a channel's tasks, all or none, each as an entry of its own.
--
-- A publisher numbers its frames upwards, and sends one again when it does not
-- know what became of it: what is there already is not appended twice. What is
-- published with a key is appended once, whoever publishes it.
--
-- KEYS[1] tasks     stream; an entry is an event. Its id is its number, and 21 bits
--                   that name the life of the stream before 32 that name this call: a
--                   late answer to a task that was lost must not hit one that has its
--                   number now
-- KEYS[2] record    string: the number of this publisher's last event; of a key, who
--                   published with it
-- KEYS[3] groups    hash: see task_meet.lua
-- ARGV[1] frame     events, encoded
-- ARGV[2] count     how many events
-- ARGV[3] publisher 8 bytes
-- ARGV[4] number    of the frame's first event, counted by the publisher; of a key, 0
-- ARGV[5] limit     tasks that may be in the stream
-- ARGV[6] record_ttl  milliseconds
-- ARGV[7] random    53 bits: the life, if a new one begins, and the call
-- ARGV[8] life      in which something was confirmed to the publisher last, or ''
-- ARGV[9] reached   the highest number that was confirmed to it then
-- ARGV[10] again    1 if it was sent before and nobody knows what became of that: it
--                   may have been there, and done, on a server that this one replaced
-- ARGV[11] before   the number of the last event that was confirmed to the publisher in
--                   that life, or 0
-- ARGV[12] server   names this run of the server; '' if that is not known
-- ARGV[13] term     in which something was confirmed to the publisher last
--
-- Returns {status, publisher, id, number of the last event, term}: 1 appended, id of the
-- last task; 0 it was there already; 2 somebody else published with this key; 3 too many
-- tasks wait.
local frame, number = ARGV[1], tonumber(ARGV[4])
local status, before = sent(KEYS[2], number, ARGV[3])
if status then
  return {status, ARGV[3], '', before}
end
local waiting = redis.call('XLEN', KEYS[1])
if waiting > 0 and waiting + tonumber(ARGV[2]) > tonumber(ARGV[5]) then
  return {3, ARGV[3], ''}
end

local BITS = 4294967296
local id, life, lost, last = 0, math.floor(tonumber(ARGV[7]) / BITS), 0, ''
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      local number, lived = string.match(info[i + 1], '^(%d+)-(%d+)$')
      if number ~= '0' then
        id, life, last = tonumber(number), math.floor(tonumber(lived) / BITS), info[i + 1]
      end
    end
  end
end
local ours = ARGV[8] == string.format('%.0f', life)
local reached = ours and tonumber(ARGV[9]) or 0
local its = ours and tonumber(ARGV[13])
local missing = 0
if ours and number > 0 then
  missing = math.max(tonumber(ARGV[11]) - before, 0)
end
local server, meta = ARGV[12], redis.call('HMGET', KEYS[3], ' server', ' term')
local term = tonumber(meta[2] or 0)
if server ~= '' and meta[1] ~= server then
  if is_other(meta[1], server, missing > 0 or reached > id or (its or 0) > term) then
    -- As in task_meet.lua. Somebody who does not say where may have appended since.
    term = math.max(term, its or 0) + 1
    redis.call('HSET', KEYS[3], ' before', last)
    begin_term(KEYS[3], ' ', term, missing > 0 and math.min(id, math.max(reached - missing, 0)) or id)
  end
  redis.call('HSET', KEYS[3], ' server', server)
end
-- Less than what was confirmed: writes are lost. As many numbers stay empty, and who
-- gets the next task is told. What another publisher has counted is not counted again.
local past, from, counted = parting(KEYS[3], ' ', its, term, reached)
if past then
  lost = math.max(reached - counted, missing - (counted - from), 0)
  if lost > 0 then
    count_lost(KEYS[3], ' ', past, counted + lost)
  end
  id = math.max(id, reached)
elseif reached > id then
  lost, id = reached - id, reached
else
  lost = missing
end
local call = string.format('-%.0f', life * BITS + tonumber(ARGV[7]) % BITS)
-- A frame is 16 bytes of header, of which the last 8 are the number of records and
-- its length, and records that begin with their length.
local at = 17
while at <= #frame do
  local len = math.max(struct.unpack('<I4', frame, at), 1)
  id = id + 1
  local event = string.sub(frame, 1, 8) .. struct.pack('<I4I4', 1, 16 + len)
    .. string.sub(frame, at, at + len - 1)
  local fields = {'e', event}
  if lost > 0 then
    table.insert(fields, 'lost')
    table.insert(fields, string.format('%.0f', lost))
    lost = 0
  end
  if ARGV[10] == '1' then
    table.insert(fields, 'again')
    table.insert(fields, '1')
  end
  redis.call('XADD', KEYS[1], string.format('%.0f', id) .. call, unpack(fields))
  at = at + len
end
if number == 0 then
  redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[6])
else
  redis.call('SET', KEYS[2], string.format('%.0f', number + tonumber(ARGV[2]) - 1), 'PX', ARGV[6])
end
return {1, ARGV[3], string.format('%.0f', id) .. call, number + tonumber(ARGV[2]) - 1, term}
