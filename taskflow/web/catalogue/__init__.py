"""The catalogue of operations: all that one may ask of a deployment or do to it, each with a typed request and answer. Rule S14.1.

HTTP routes, OpenAPI and `taskflow api` are made of it. It needs no web framework. An operation calls `runs/`, as the command line
does, so that all ways in show and do the same.
"""
