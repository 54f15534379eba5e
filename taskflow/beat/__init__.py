"""Beat: fires crons and timers, finds lost work, and trims history. It needs no user code."""
