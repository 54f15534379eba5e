"""The asyncio part of the engine: tasks of one handler, what they wait for, and how they are unwound.

Knows nothing of runs or of the store; imports `errors` alone. The proofs that a handler can't go on serve S4.3: a suspended
run holds no task.
"""
