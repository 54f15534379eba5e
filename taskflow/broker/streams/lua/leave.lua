-- leave: forget a consumer that leaves. One that still holds messages is kept, so that others take them over. Rule S9.1.
-- KEYS   1 stream
--@argv group consumer alive
--       alive: prefix of the keys that live consumers keep
-- Reply  how many other live consumers the stream has
-- Repeat finds nothing to forget
local others = 0
for _, facts in ipairs(consumers_of(KEYS[1], group)) do
  if facts['name'] ~= consumer then
    others = others + redis.call('EXISTS', alive .. facts['name'])
  elseif facts['pending'] == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], group, consumer)
  end
end
return others
