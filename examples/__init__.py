"""Examples: one idea a file. Each says on top how to run it, and is run by a test in tests/examples/."""
