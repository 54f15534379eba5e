"""The supervisor of a worker: one process without user code, which forks, watches and replaces the children. Rules S9.3, S9.6.

Shares with `worker.child` only `worker.lease`, `worker.link` and `worker.messages`: the two never share a process.
"""
