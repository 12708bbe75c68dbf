-- Notes which server this is, and says which tasks may have been given to somebody by
-- another server before: a replica that took over, or a server that was started again,
-- may not know it.
--
-- KEYS[1] tasks   stream
-- KEYS[2] groups  hash: when each group was last at work. Beside groups, in names that no
--                 group has: server, term, from:T and counted:T, see shared.lua; and before:
--                 the id of the last task when the last term began
-- ARGV[1] server  names this run of the server
--
-- Returns that id, or ''.
local meta = redis.call('HMGET', KEYS[2], ' server', ' term', ' before')
if meta[1] == ARGV[1] then
  return meta[3] or ''
end
local before = meta[3] or ''
if is_other(meta[1], ARGV[1]) then
  local term = tonumber(meta[2] or 0) + 1
  before = ''
  if redis.call('EXISTS', KEYS[1]) == 1 then
    local info = redis.call('XINFO', 'STREAM', KEYS[1])
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then
        before = info[i + 1]
      end
    end
  end
  redis.call('HSET', KEYS[2], ' before', before)
  begin_term(KEYS[2], ' ', term, string.match(before, '^%d+') or 0)
end
redis.call('HSET', KEYS[2], ' server', ARGV[1])
return before
