#!lua
-- Appends events to a channel's tasks, all or none, each as an entry of its own.
--
-- A publisher numbers its frames upwards, and sends one again when it does not
-- know what became of it: what is there already is not appended twice. What is
-- published with a key is appended once, whoever publishes it.
--
-- KEYS[1] tasks     stream; an entry is an event. Its id is its number, without
--                   holes, and the life of the stream: a late answer to a task of a
--                   stream that was lost must not hit one that has its number now
-- KEYS[2] record    string: the number of this publisher's last frame; of a key, who
--                   published with it
-- ARGV[1] frame     events, encoded
-- ARGV[2] count     how many events
-- ARGV[3] publisher 8 bytes
-- ARGV[4] number    of the frame; of a key, 0
-- ARGV[5] limit     tasks that may be in the stream
-- ARGV[6] record_ttl  milliseconds
-- ARGV[7] random    the life, if a new one begins
--
-- Returns a status: 1 appended; 0 it was there already; 2 somebody else published
-- with this key; 3 too many tasks wait.
local frame, number = ARGV[1], tonumber(ARGV[4])
local record = redis.call('GET', KEYS[2])
if record and (number == 0 or number <= tonumber(record)) then
  if number == 0 and record ~= ARGV[3] then
    return 2
  end
  return 0
end
local waiting = redis.call('XLEN', KEYS[1])
if waiting > 0 and waiting + tonumber(ARGV[2]) > tonumber(ARGV[5]) then
  return 3
end

local id, life = 0, ARGV[7]
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      local number, lived = string.match(info[i + 1], '^(%d+)-(%d+)$')
      if number ~= '0' then
        id, life = tonumber(number), lived
      end
    end
  end
end
-- A frame is 16 bytes of header, of which the last 8 are the number of records and
-- its length, and records that begin with their length.
local at = 17
while at <= #frame do
  local len = math.max(struct.unpack('<I4', frame, at), 1)
  id = id + 1
  redis.call('XADD', KEYS[1], string.format('%.0f-', id) .. life, 'e',
    string.sub(frame, 1, 8) .. struct.pack('<I4I4', 1, 16 + len) .. string.sub(frame, at, at + len - 1))
  at = at + len
end
if number == 0 then
  redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[6])
else
  redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[6])
end
return 1
