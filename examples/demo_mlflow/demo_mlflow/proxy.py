"""A proxy in front of MLflow that lets files through as slowly as it is told: a bad network on demand."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

DROPPED = {"host", "connection", "keep-alive", "transfer-encoding", "date", "server"}
PIECE_SECONDS = 0.1
CHUNK = 1 << 16


class Proxy:
    """`slow_suffix` names the files that get `bytes_per_second`; all other answers pass at full speed."""

    def __init__(self, url: str, target: str) -> None:
        self.url = url
        self.slow_suffix = ""
        self.bytes_per_second = 0.0
        self.connections: set[socket.socket] = set()
        self._target = urlsplit(target).netloc

    def cut(self) -> None:
        """Ends every connection that is open."""
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def trickle(self, suffix: str, bytes_per_second: float) -> None:
        """From now on; an empty suffix ends it."""
        self.slow_suffix, self.bytes_per_second = suffix, bytes_per_second

    def forward(self, request: BaseHTTPRequestHandler) -> None:
        connection = http.client.HTTPConnection(self._target, timeout=60)
        try:
            length = int(request.headers.get("Content-Length", 0))
            headers = {name: value for name, value in request.headers.items() if name.lower() not in DROPPED}
            connection.request(
                request.command, request.path, request.rfile.read(length), headers | {"Host": self._target}
            )
            answer = connection.getresponse()
            request.send_response(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in DROPPED:
                    request.send_header(name, value)
            if "Content-Length" not in answer.headers:
                # Only the end of the connection tells where such a body ends.
                request.send_header("Connection", "close")
                request.close_connection = True
            request.end_headers()
            self._body(request, answer)
        except OSError:
            # Either side went away, as it does when a test ends one of them.
            request.close_connection = True
        finally:
            connection.close()

    def _body(self, request: BaseHTTPRequestHandler, answer: http.client.HTTPResponse) -> None:
        path = urlsplit(request.path).path
        slow = bool(self.slow_suffix) and request.command == "GET" and path.endswith(self.slow_suffix)
        while chunk := answer.read(CHUNK):
            while slow and chunk and self.slow_suffix:
                piece = max(1, int(self.bytes_per_second * PIECE_SECONDS))
                request.wfile.write(chunk[:piece])
                chunk = chunk[piece:]
                time.sleep(PIECE_SECONDS)
            request.wfile.write(chunk)


@contextmanager
def running(target: str) -> Iterator[Proxy]:
    """A proxy on a free local port in front of `target`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 0
        # A head and its body are two writes; without this the second waits 40 ms for the first one's receipt.
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing: what it forwards is in MLflow's log."""

        def setup(self) -> None:
            super().setup()
            proxy.connections.add(self.connection)

        def finish(self) -> None:
            proxy.connections.discard(self.connection)
            super().finish()

        def forward(self) -> None:
            proxy.forward(self)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = forward

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Says nothing: the client went away."""

    server = Server(("127.0.0.1", 0), Handler)
    proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}", target)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.trickle("", 0)
        server.shutdown()
        server.server_close()
        proxy.cut()
