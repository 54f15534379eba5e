"""Step tools, one a file: what each stores, what it answers, and how its wait is described. Rules S3.1 to S3.8.

May import the floors below the engine. The engine calls them through `StepHost`.
"""
