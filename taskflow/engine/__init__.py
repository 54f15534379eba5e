"""The engine: executes one run in this process, from its claim to its end. Rules S4, S5.

Floor 4: imports `store`, `steps` and `flow`; never `routing`, which stands on the same floor.
"""
