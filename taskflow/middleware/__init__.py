"""Middleware: code of the user's around sends, activations and attempts, and code that is told what happens to a run. Rule S11.4.

`base` has the class that users derive from, `facts` what its methods get, `hooks` which methods a function's middleware overrides
(worked out once), `onion` how wrapping methods, `def` or `async def`, are put around each other.
It stands beside the user's words, and knows events, errors and values; the engine, the app and the tests call it.
"""
