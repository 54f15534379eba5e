"""Realtime: messages from runs and other code to the people who watch. Rule S17.

Floor 4: `feeds` reads channels, once for all readers of a process; `reading` is what one reader gets; `tokens` says who may read
what. `publishing` and `web/realtime/` are built on it. It knows neither the app nor HTTP.
"""
