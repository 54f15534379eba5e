"""A broker on Redis Streams: exchanges, queues and messages, a consumer on the worker's loop, and a kombu transport.

Floor 2: imports `redis` and `values`, and for the transport kombu. All keys begin with `tf:{b}:` (or another namespace than `tf`).
The rule is S9.1: a message that a consumer received and did not acknowledge is delivered again.
"""
