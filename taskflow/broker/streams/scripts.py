"""The Lua scripts of the Redis Streams transport: what must happen at once or not at all."""

from __future__ import annotations

from hashlib import sha1

GROUP = "q"
"""The one consumer group of each stream: its consumers compete, as those of an AMQP queue do."""

CHANGE = """
-- change: alter exchanges, queues and bindings, and give the topology a new version if anything is altered.
-- KEYS   1 version
-- ARGV   1 epoch to begin with, if there is no version   2 commands, JSON: [[name, key, ...], ...]
-- Reply  the version: epoch/number
local altered, failure = false, nil
for _, command in ipairs(cjson.decode(ARGV[2])) do
  local reply = redis.pcall(unpack(command))
  if type(reply) ~= 'table' then
    altered = altered or (reply ~= 0 and reply ~= false)
  elseif reply.ok then
    altered = true
  elseif reply.err and not string.find(reply.err, 'BUSYGROUP', 1, true) then
    failure = failure or reply
  end
end
local version = redis.call('GET', KEYS[1])
if altered or not version then
  local epoch, number = string.match(version or '', '^(.*)/(%d+)$')
  version = (epoch or ARGV[1]) .. '/' .. ((tonumber(number) or 0) + 1)
  redis.call('SET', KEYS[1], version)
end
return failure or version
"""

REQUEUE = """
-- requeue: put messages that this consumer holds at the end of their stream, marked as redelivered.
-- KEYS   1 stream
-- ARGV   1 group   2 consumer   3... ids
-- Reply  how many it still held; those that another consumer has taken over stay with that one
local moved = 0
for i = 3, #ARGV do
  local id = ARGV[i]
  local held = redis.pcall('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2])
  if held[1] then
    local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
    if entry and entry[2][4] then
      -- First, for a server without memory refuses it, and then the message must still be held.
      redis.call('XADD', KEYS[1], '*', 'm', entry[2][2], 'b', entry[2][4], 'r', '1')
      moved = moved + 1
    end
    redis.call('XACK', KEYS[1], ARGV[1], id)
    redis.call('XDEL', KEYS[1], id)
  end
end
return moved
"""

TAKE_OVER = """
-- take_over: claim what dead consumers hold in any of the streams; remove those that hold nothing any more.
-- KEYS   1... streams
-- ARGV   1 group   2 consumer that takes   3 idle_ms after which a message of a dead consumer is free
--        4 at most so many a stream   5 prefix of the keys that live consumers keep
--        6... consumers that are dead for sure
-- Reply  entries of each stream: {{{id, {field, value, ...}}, ...}, ...}
local dead, taken = {}, {}
for i = 6, #ARGV do dead[ARGV[i]] = true end

local function facts_of(consumer)
  local facts = {}
  for i = 1, #consumer, 2 do facts[consumer[i]] = consumer[i + 1] end
  return facts
end

local function take(stream, name, idle_ms, room, entries)
  local claim = {'XCLAIM', stream, ARGV[1], ARGV[2], '0'}
  for _, message in ipairs(redis.call('XPENDING', stream, ARGV[1], 'IDLE', idle_ms, '-', '+', room, name)) do
    claim[#claim + 1] = message[1]
  end
  if #claim == 5 then return end
  for _, entry in ipairs(redis.call(unpack(claim))) do
    if entry then entries[#entries + 1] = entry end
  end
end

for i, stream in ipairs(KEYS) do
  local consumers, entries = redis.pcall('XINFO', 'CONSUMERS', stream, ARGV[1]), {}
  if consumers.err then consumers = {} end
  for _, consumer in ipairs(consumers) do
    local facts = facts_of(consumer)
    local name = facts['name']
    if name ~= ARGV[2] and (dead[name] or redis.call('EXISTS', ARGV[5] .. name) == 0) then
      local idle_ms, room = dead[name] and '0' or ARGV[3], tonumber(ARGV[4]) - #entries
      if facts['pending'] > 0 and room > 0 then
        take(stream, name, idle_ms, room, entries)
      elseif facts['pending'] == 0 and facts['idle'] >= tonumber(idle_ms) then
        redis.call('XGROUP', 'DELCONSUMER', stream, ARGV[1], name)
      end
    end
  end
  taken[i] = entries
end
return taken
"""

LEAVE = """
-- leave: forget a consumer that goes, unless it still holds messages: these are for a takeover.
-- KEYS   1 stream
-- ARGV   1 group   2 consumer   3 prefix of the keys that live consumers keep
-- Reply  how many other live consumers the stream has
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers.err then return 0 end
local others = 0
for _, consumer in ipairs(consumers) do
  local facts = {}
  for i = 1, #consumer, 2 do facts[consumer[i]] = consumer[i + 1] end
  if facts['name'] ~= ARGV[2] then
    others = others + redis.call('EXISTS', ARGV[3] .. facts['name'])
  elseif facts['pending'] == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
  end
end
return others
"""

RELEASE = """
-- release: give back all that dead consumers hold, marked as redelivered, and forget them.
-- KEYS   1... streams
-- ARGV   1 group   2 what the names of the consumers begin with   3 prefix of the keys that live consumers keep
-- Reply  how many messages
local moved, named = 0, ARGV[2]
for _, stream in ipairs(KEYS) do
  local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, ARGV[1])
  if consumers.err then consumers = {} end
  for _, consumer in ipairs(consumers) do
    local name
    for i = 1, #consumer, 2 do
      if consumer[i] == 'name' then name = consumer[i + 1] end
    end
    if string.sub(name, 1, #named) == named then
      redis.call('DEL', ARGV[3] .. name)
      local held
      repeat
        held = redis.call('XPENDING', stream, ARGV[1], '-', '+', 500, name)
        for _, message in ipairs(held) do
          local id = message[1]
          local entry = redis.call('XRANGE', stream, id, id)[1]
          if entry and entry[2][4] then
            redis.call('XADD', stream, '*', 'm', entry[2][2], 'b', entry[2][4], 'r', '1')
            moved = moved + 1
          end
          redis.call('XACK', stream, ARGV[1], id)
          redis.call('XDEL', stream, id)
        end
      until #held == 0
      redis.call('XGROUP', 'DELCONSUMER', stream, ARGV[1], name)
    end
  end
end
return moved
"""

PURGE = """
-- purge: remove the messages of a stream that no consumer holds.
-- KEYS   1 stream
-- ARGV   1 group
-- Reply  how many
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups.err then return 0 end
local last = '-'
for _, group in ipairs(groups) do
  local facts = {}
  for i = 1, #group, 2 do facts[group[i]] = group[i + 1] end
  if facts['name'] == ARGV[1] then last = '(' .. facts['last-delivered-id'] end
end
local removed = 0
while true do
  local entries = redis.call('XRANGE', KEYS[1], last, '+', 'COUNT', 1000)
  if #entries == 0 then return removed end
  local ids = {}
  for i, entry in ipairs(entries) do ids[i] = entry[1] end
  removed = removed + redis.call('XDEL', KEYS[1], unpack(ids))
end
"""

SCRIPTS = (CHANGE, REQUEUE, TAKE_OVER, LEAVE, PURGE)
"""Loaded with every connection, so that EVALSHA finds them: a server that restarts breaks it."""


def script_sha(script: str) -> str:
    """The name under which EVALSHA knows the script."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()


CHANGE_SHA = script_sha(CHANGE)
REQUEUE_SHA = script_sha(REQUEUE)
TAKE_OVER_SHA = script_sha(TAKE_OVER)
LEAVE_SHA = script_sha(LEAVE)
RELEASE_SHA = script_sha(RELEASE)
PURGE_SHA = script_sha(PURGE)
