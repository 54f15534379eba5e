"""What a person sees in a terminal: tables, colours, the page and the timeline of a run.

Floor 6: only `commands` and `testing` import it. Shows what `runs` has read, and reads nothing itself.
"""
