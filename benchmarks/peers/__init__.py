"""taskflow beside its peers, the same work for all: `make bench-peers`, or `python -m benchmarks.peers --help`.

The modules `marks` and `client` and the folder `apps` are also imported in the environments of the peers, where nothing of taskflow
is installed: they need the standard library, and an app its peer.
"""
