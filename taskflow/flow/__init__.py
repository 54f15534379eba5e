"""Flow control: how many runs of a function start, and how many execute, at a time. Rules S7."""
