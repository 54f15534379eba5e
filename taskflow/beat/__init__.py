"""Fires crons and timers, and looks after what others lost. Needs no user code."""
