"""Reading and acting on runs that exist: views, reasons, selection, cancelling, rerun and replay. Rules S6.1, S10.

Floor 4: the command line, the tests and the web use only this, so that they show and do the same.
"""
