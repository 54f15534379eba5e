local prefix = KEYS[1]
local plain_claims = {}
local function plain_claim(text)
  local known = plain_claims[text]
  if known == nil then
    local fence, fn, queue = string.match(text, '^(%d+)' .. '\31' .. '(.-)' .. '\31' .. '(.*)$')
    known = fence and {fence, fn, queue}
    plain_claims[text] = known or false
  end
  return known
end
local function mark_claim(run_id, child_id)
  local text = redis.call('HGET', (prefix .. 'claims:' .. child_id), run_id)
  local claim = text and plain_claim(text)
  if claim then redis.call('HSET', (prefix .. 'claims:' .. child_id), run_id, ((claim[1]) .. (false and '' or '+') .. '\31' .. (claim[2]) .. '\31' .. (claim[3]))) end
end
local run_id = ARGV[1]
local run = redis.call('HMGET', (prefix .. 'run:' .. run_id), 'status', 'ended', 'by')
if not run[1] then return 0 end
if not run[2] then redis.call('HSET', (prefix .. 'run:' .. run_id), 'watched', 1) end
if run[1] == 'running' then mark_claim(run_id, run[3]) end
return 1
