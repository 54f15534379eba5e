"""A service that takes POSTs over HTTP on loopback, for what others send to: Sentry, a collector of traces."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def post_server(take: Callable[[Message, bytes], bytes]) -> Iterator[str]:
    """Serve; gives "host:port". `take` gets the headers and body of each request, and returns what to answer with 200."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer = take(self.headers, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
