"""The same work, written for each peer: the tasks that its workers run, and a client with one operation for each kind of work.

An operation takes a number, by which the task's mark is found, and the moment (s since the epoch) that a timer waits for.
"""
