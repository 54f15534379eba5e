"""Logs: how lines look, what they say of runs, and how errors of user code are described.

Floor 1: imports `values`, `errors` and `types`, and of `redis` the hiding of passwords.
"""
