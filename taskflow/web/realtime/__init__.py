"""Realtime over HTTP: server-sent events, WebSocket, publishing and tokens, in the frames of Inngest's clients. Rule S17.3."""
