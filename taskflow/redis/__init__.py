"""Everything that speaks to a Redis or Valkey server: addresses, topology, connections, clients, and the loader of Lua scripts.

Floor 1: imports `values`, `errors` and `types`. Knows nothing of runs or events: `store` and `broker` put the meaning in.
The rules are S9.5 (reconnecting) and S9.7 (durability).
"""
