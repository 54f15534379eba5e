"""Codecs: what happens to a value between its JSON and the store: compression, then encryption. Rule S12.

Floor 1: it knows values and errors, and no event, run or store. `codecs` is the pair that `values.stored` calls, `envelope` has the
forms in which values are stored, `event_fields` encrypts fields of events. Each codec is one module; what it needs beyond the
standard library is imported when one is made.
"""
