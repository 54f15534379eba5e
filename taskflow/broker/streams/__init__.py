"""A kombu transport over Redis Streams, and the consumer that reads the same streams on a worker's loop.

Floor 2: imports `redis`, `values` and kombu. The keys begin with `tfb:`. The rule is S9.1: what a consumer took and did not
acknowledge is delivered again.
"""
