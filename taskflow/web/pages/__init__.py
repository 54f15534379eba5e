"""The dashboard: pages made by the server, with one small script that keeps them fresh. Rule S14.5.

A page reads through `runs/`, as the command line does; what it changes, it changes by an operation of the catalogue. It works
without the script, under any prefix, and under a Content-Security-Policy without exceptions.
"""
