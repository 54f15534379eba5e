-- count_runs: how many runs of some functions, or of all, are kept. Rule S10.8.
-- KEYS   1 prefix
--@argv since_ms until_ms part:int parts:int functions[]
--       since_ms, until_ms: count only runs that were made from then till then, or '-inf' and '+inf'. part, parts: if no functions
--       are named, count the part of this number, from 0, of so many parts
-- Reply  {all runs, those that failed, that were cancelled, that were skipped, that have not ended}
-- Repeat changes nothing, as a call does
local KINDS = {FAILED, CANCELLED, SKIPPED, LIVE}
local named = {}
for fn in functions do named[#named + 1] = fn end
local counts = {0, 0, 0, 0, 0}
for _, fn in ipairs(chosen_functions(named, part, parts)) do
  local kept = redis.call('ZCOUNT', runs_key(fn), since_ms, until_ms)
  if kept > 0 then
    counts[1] = counts[1] + kept
    for place, kind in ipairs(KINDS) do
      counts[place + 1] = counts[place + 1] + redis.call('ZCOUNT', kind_key(fn, kind), since_ms, until_ms)
    end
  end
end
return counts
