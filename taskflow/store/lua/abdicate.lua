-- abdicate: end the term of a beat that stops, so that another beat need not wait for the end of the term. Rule S8.1.
-- KEYS   1 prefix
--@argv beat_id
-- Reply  1 when this beat was the leader, else 0
-- Repeat writes the same again, or finds another leader and gives 0
if redis.call('HGET', prefix .. 'leader', 'beat_id') ~= beat_id then return 0 end
redis.call('HSET', prefix .. 'leader', 'until_ms', 0)
return 1
