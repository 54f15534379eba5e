"""Routing: from an event to the runs that it starts and the waits that it ends. Rules S1.3 to S1.6, S3.3, S9.1.

Floor 4: imports `store`, `flow` and `expressions`; never `engine`, which stands on the same floor.
"""
