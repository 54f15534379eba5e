"""Tasks: functions that are called with arguments, and whose code is one step. Rules S15."""
