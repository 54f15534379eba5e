"""The store: tables in Redis or Valkey, behind typed methods. It knows keys and scripts, but no policy.

Floor 3: imports `redis`, `values` and the modules of the users' words. Each change of state is one script in `lua/`.
"""
