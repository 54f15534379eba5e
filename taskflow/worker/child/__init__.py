"""A child of a worker: one process with one loop, which routes events and executes runs. Rules S9.1, S9.6, S9.8."""
