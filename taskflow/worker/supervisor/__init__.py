"""The supervisor of a worker: one process without user code, which forks, watches and replaces the children. Rules S9.3, S9.6.

It shares only `worker.lease`, `worker.link` and `worker.messages` with `worker.child`, as the two never run in one process.
"""
