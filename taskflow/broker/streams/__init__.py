"""Exchanges, queues and messages on Redis Streams, and the consumer that reads them on a worker's loop; kombu's face of it.

Floor 2: imports `redis`, `values` and, for its face, kombu. The keys begin with `tf:{b}:`, or with another namespace than `tf`. The
rule is S9.1: what a consumer took and did not acknowledge is delivered again.
"""
