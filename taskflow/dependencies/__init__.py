"""Dependencies: what a handler or a step's function needs, given to it when it executes. Rule S11.5.

`depends` has the mark that users write, `needs` reads the signatures that have it (once), `scopes` sets up what they name and takes
it down: for an attempt, for an activation of a run, or for a process. It stands beside the user's words, and knows errors, values
and `Context`; the engine calls it where it calls user code.
"""
