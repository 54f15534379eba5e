-- bulk: bulk operations, see create_bulk.
local function bulk_key(bulk_id) return prefix .. 'bulk:' .. bulk_id end
local function end_bulk(bulk_id, status, now_ms)
  redis.call('HSET', bulk_key(bulk_id), 'status', status, 'ended', now_ms)
  redis.call('SREM', prefix .. 'bulks_open', bulk_id)
end
