"""The web: operations over HTTP, the event API that Inngest's SDKs speak, and keys. Rule S14.

Floor 7, beside the commands. `catalogue/` has the operations; the rest, which needs the extra taskflow-durable[web], serves them.
"""
