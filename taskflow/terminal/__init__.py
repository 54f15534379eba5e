"""Output for a terminal: tables, colours, the page and the timeline of a run.

Floor 6: only `commands` and `testing` import it. It shows the views that `runs` has read, and reads nothing itself.
"""
