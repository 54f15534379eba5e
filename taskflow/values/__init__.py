"""Values: how time, JSON, durations, ids and tokens are written and read.

Floor 0: imports nothing of taskflow but `errors` and `types`. The rules are S1.1 (ids), S2.6 (JSON) and S8.3 (clocks).
"""
