"""The event API: Inngest's SDKs send events to it unmodified, and scripts that were written for it read what came. Rule S14.3."""
