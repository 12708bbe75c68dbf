#!lua
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
-- KEYS[3] groups    hash: see task_meet.lua; from:T and counted:T are the number of the
--                   last task when term T began, and up to which number of the term
--                   before it is counted what was lost then
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
-- ARGV[12] server   names this run of the server; '' or none if that is not known
-- ARGV[13] term     in which something was confirmed to the publisher last
--
-- Returns {status, publisher, id, number of the last event, term}: 1 appended, id of the
-- last task; 0 it was there already; 2 somebody else published with this key; 3 too many
-- tasks wait.
local frame, number = ARGV[1], tonumber(ARGV[4])
local record = redis.call('GET', KEYS[2])
if record and (number == 0 or number <= tonumber(record)) then
  if number == 0 and record ~= ARGV[3] then
    return {2, ARGV[3], ''}
  end
  return {0, ARGV[3], '', tonumber(number == 0 and 0 or record)}
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
local its = ours and tonumber(ARGV[13] or '')
local missing = 0
if ours and number > 0 then
  missing = math.max(tonumber(ARGV[11] or 0) - tonumber(record or 0), 0)
end
local server, meta = ARGV[12] or '', {}
if KEYS[3] then
  meta = redis.call('HMGET', KEYS[3], ' server', ' term')
end
local term = tonumber(meta[2] or 0)
if KEYS[3] and server ~= '' and meta[1] ~= server then
  if meta[1] then
    -- As in task_meet.lua. Somebody who does not say where may have appended since.
    term = math.max(term, its or 0) + 1
    local from = missing > 0 and math.min(id, math.max(reached - missing, 0)) or id
    from = string.format('%.0f', from)
    redis.call('HSET', KEYS[3], ' before', last, ' term', term,
      ' from:' .. term, from, ' counted:' .. term, from)
    redis.call('HDEL', KEYS[3], ' from:' .. (term - 16), ' counted:' .. (term - 16))
  end
  redis.call('HSET', KEYS[3], ' server', server)
end
-- Less than what was confirmed: writes are lost. As many numbers stay empty, and who
-- gets the next task is told. What another publisher has counted is not counted again.
local past = {}
while its and its < term do
  past = redis.call('HMGET', KEYS[3], ' from:' .. (its + 1), ' counted:' .. (its + 1))
  if not past[1] or reached > tonumber(past[1]) then
    break
  end
  -- The next term had it, too.
  its, past = its + 1, {}
end
if past[1] then
  local counted = tonumber(past[2])
  lost = math.max(reached - counted, missing - (counted - tonumber(past[1])), 0)
  if lost > 0 then
    redis.call('HSET', KEYS[3], ' counted:' .. (its + 1), string.format('%.0f', counted + lost))
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
