"""The step tools, one a file: what each stores, what it returns, and how its wait is described. Rules S3.1 to S3.8.

Floor 4: they import the floors below, and never the engine, which they reach through `StepHost`.
"""
