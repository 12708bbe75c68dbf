#!lua
-- What several scripts have in common: those that do not begin with #!lua begin with
-- this file.
--
-- Terms. Whoever calls says which run of which server answers. If that changes, a replica
-- may have taken over that lacks the last writes, and a new term of the channel begins. A
-- hash of the channel has, under names that begin with p: server and term; and for the
-- last 16 terms from:T, where the channel ended when term T began, and counted:T, up to
-- where of the term before it is counted what was lost then.

-- Whether what this server has may be less than what the one before had. 8 bytes name a
-- run; the lowest bit is set if it is on disk before anybody is answered, and nobody else
-- could have taken over. doubt: somebody knows of something that is not there.
local function is_other(before, server, doubt)
  before = before or ''
  if before == '' or server == '' or before == server then
    return false
  end
  return doubt or string.byte(before) % 2 == 0 or string.byte(server) % 2 == 0
end

local function begin_term(key, p, term, from)
  from = string.format('%.0f', from)
  redis.call('HSET', key, p .. 'term', term, p .. 'from:' .. term, from, p .. 'counted:' .. term, from)
  redis.call('HDEL', key, p .. 'from:' .. (term - 16), p .. 'counted:' .. (term - 16))
end

-- A publisher was in its term, and this far. Returns the term in which the server before
-- the one that lacks some of that was, where the two part, and how far that is counted;
-- nothing if none is known that lacks any.
local function parting(key, p, its, term, reached)
  while its and its < term do
    local past = redis.call('HMGET', key, p .. 'from:' .. (its + 1), p .. 'counted:' .. (its + 1))
    if not past[1] then
      return nil
    end
    if reached > tonumber(past[1]) then
      return its, tonumber(past[1]), tonumber(past[2])
    end
    -- The next term had it, too.
    its = its + 1
  end
end

-- Notes that so much of a term is counted.
local function count_lost(key, p, its, upto)
  redis.call('HSET', key, p .. 'counted:' .. (its + 1), string.format('%.0f', upto))
end

-- Whether a frame is there already, by its number or, if that is 0, by its key: 0 it is; 2
-- somebody else published with this key; nil it is not. And the number of its publisher's
-- last event that is there.
local function sent(key, number, publisher)
  local record = redis.call('GET', key)
  if number == 0 then
    if record then
      return record == publisher and 0 or 2, 0
    end
    return nil, 0
  end
  local last = tonumber(record or 0)
  if number <= last then
    return 0, last
  end
  return nil, last
end
