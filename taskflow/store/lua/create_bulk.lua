-- create_bulk: keep a bulk operation, which beat carries on. Rule S14.6.
-- `bulk:<id>` is a hash: asked (JSON: what is to be done to which runs, who asked for it), status ('running' | 'completed' |
-- 'stopped'), turn (raised by each portion), place (the run after which to go on), looked, done and failed (numbers of runs),
-- problems (JSON: why the first ones failed), ended (ms). `bulks` is a sorted set of all by when (ms) they were made, `bulks_open`
-- the set of those that run.
-- KEYS   1 prefix
--@argv now_ms bulk_id asked most:int
--       most: how many are kept; the oldest that have ended go
-- Reply  1, or 0 if there is one of this id
-- Repeat gives 0
local key = bulk_key(bulk_id)
if redis.call('EXISTS', key) == 1 then return 0 end
redis.call('HSET', key, 'asked', asked, 'status', RUNNING, 'turn', 0, 'looked', 0, 'done', 0, 'failed', 0)
redis.call('ZADD', prefix .. 'bulks', now_ms, bulk_id)
redis.call('SADD', prefix .. 'bulks_open', bulk_id)
local extra = redis.call('ZCARD', prefix .. 'bulks') - most
for _, old in ipairs(extra > 0 and redis.call('ZRANGE', prefix .. 'bulks', 0, extra - 1) or {}) do
  if redis.call('SISMEMBER', prefix .. 'bulks_open', old) == 0 then
    redis.call('DEL', bulk_key(old))
    redis.call('ZREM', prefix .. 'bulks', old)
  end
end
return 1
