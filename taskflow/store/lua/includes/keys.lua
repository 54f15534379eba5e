-- keys: every key that a script makes. KEYS[1] is the prefix of the partition, "tf:{0}:". Its hash tag puts all keys in one slot of
-- a cluster. In Python store/keys.py has the same names.
local prefix = KEYS[1]
local SEP = '\31'  -- between the names of which a member or field is made
local function run_key(run_id) return prefix .. 'run:' .. run_id end
local function steps_key(run_id) return prefix .. 'steps:' .. run_id end
local function batch_key(run_id) return prefix .. 'batch:' .. run_id end
local function joins_key(run_id) return prefix .. 'joins:' .. run_id end
local function ready_key(fn, queue) return prefix .. 'ready:' .. queue .. ':' .. fn end
local function queue_key(app, queue) return prefix .. 'queue:' .. app .. ':' .. queue end
local function claims_key(child_id) return prefix .. 'claims:' .. child_id end
local function child_channel(child_id) return prefix .. 'child:' .. child_id end
local function watch_channel(run_id) return prefix .. 'watch:' .. run_id end
local function done_channel(run_id) return prefix .. 'done:' .. run_id end
local function pauses_channel(app) return prefix .. 'pauses:' .. app end
local function app_key(app) return prefix .. 'app:' .. app end
local function event_key(uid) return prefix .. 'event:' .. uid end
local function events_key(name) return prefix .. 'events:' .. name end
local function runs_key(fn) return prefix .. 'runs:' .. fn end
local function kind_key(fn, kind) return prefix .. 'runs:' .. fn .. SEP .. kind end
local function children_key(run_id) return prefix .. 'children:' .. run_id end
local function called_key(fn, chosen_id) return prefix .. 'called:' .. fn .. ':' .. chosen_id end
local function held_key(fn) return prefix .. 'held:' .. fn end
local function app_of(fn) return string.match(fn, '^([^/]+)/') end
