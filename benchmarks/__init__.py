"""How fast taskflow is, measured on real processes: `make bench`, or `python -m benchmarks --help`."""
