-- One page of a channel's log, and where the log ends, at one moment. Gives the
-- channel an epoch if it has none, so that a reader who waits for the first event
-- notices when all is lost.
--
-- KEYS[1] log   stream; an entry is a frame, its id the offset of its last event
-- KEYS[2] meta  hash: see log_append.lua
-- ARGV[1] from      frames that end at this offset or later, oldest first; or +: the
--                   newest first
-- ARGV[2] frames    how many at most; 0 for none
-- ARGV[3] fresh     8 random bytes: the epoch, if a new one begins
-- ARGV[4] meta_ttl  milliseconds
-- ARGV[5] server    names this run of the server; '' if that is not known
-- ARGV[6] term      in which the reader is; '' if it is in none
--
-- Returns {epoch, offset, entries, term, common}: up to offset common the log is the one
-- that the reader's term had; -1 if that is not known, or the term is this one.
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'offset', 'server', 'term')
local server = ARGV[5]
if not meta[1] then
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[2], 'epoch', ARGV[3], 'offset', '0', 'server', server)
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
  return {ARGV[3], 0, {}, 0, -1}
end
local its, term = tonumber(ARGV[6]), tonumber(meta[4] or 0)
if server ~= '' and meta[3] ~= server then
  if is_other(meta[3], server, (its or 0) > term) then
    term = math.max(term, its or 0) + 1
    begin_term(KEYS[2], '', term, meta[2])
  end
  redis.call('HSET', KEYS[2], 'server', server)
end
local common = -1
if its and its < term then
  for t = math.max(its, term - 17) + 1, term do
    local from = tonumber(redis.call('HGET', KEYS[2], 'from:' .. t) or '')
    if not from then
      common = -1
      break
    end
    common = common < 0 and from or math.min(common, from)
  end
end
local entries = {}
if ARGV[1] == '+' then
  entries = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[2])
elseif ARGV[2] ~= '0' then
  entries = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
end
return {meta[1], tonumber(meta[2]), entries, term, common}
