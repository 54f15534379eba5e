"""Reads runs that exist, and acts on them: views, reasons, selection, cancelling, rerun and replay. Rules S6.1, S10.

Floor 4: the command line, the testing tools and the web use only this, so that they all show and do the same.
"""
