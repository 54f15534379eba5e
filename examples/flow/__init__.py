"""One idea of flow control each; start one with `taskflow dev -A examples.flow.NAME`."""
