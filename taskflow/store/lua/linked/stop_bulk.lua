local prefix = KEYS[1]
local function end_bulk(bulk_id, status, now_ms)
  redis.call('HSET', (prefix .. 'bulk:' .. bulk_id), 'status', status, 'ended', now_ms)
  redis.call('SREM', prefix .. 'bulks_open', bulk_id)
end
local now_ms, bulk_id = ARGV[1], ARGV[2]
local status = redis.call('HGET', (prefix .. 'bulk:' .. bulk_id), 'status')
if not status then return -1 end
if status ~= 'running' then return 0 end
end_bulk(bulk_id, 'stopped', now_ms)
return 1
