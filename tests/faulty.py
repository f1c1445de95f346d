"""A proxy in front of the S3 service of the tests that answers wrongly when it is told to."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

# What to do with a request, by its method and how often it came for the same object before.
Fault = Literal["503", "cut the answer", "cut the request"] | None
Rule = Callable[[str, int], Fault]
SLOW_DOWN = (
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)


class Faulty:
    """The proxy: `endpoint`, how many `requests` came, how many `faults` were answered."""

    def __init__(self, target: str, rule: Rule) -> None:
        self.requests = 0
        self.faults = 0
        self.seen: Counter[tuple[str, str]] = Counter()
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _relay(self) -> None:
                with lock:
                    path = self.path.partition("?")[0]
                    fault = rule(self.command, outer.seen[self.command, path])
                    outer.seen[self.command, path] += 1
                    outer.requests += 1
                    outer.faults += fault is not None
                length = int(self.headers.get("content-length") or 0)
                if fault == "cut the request":
                    self.rfile.read(length // 2)
                    self.close_connection = True
                    return
                body = self.rfile.read(length)
                if fault == "503":
                    self._answer(503, {}, SLOW_DOWN)
                    return
                upstream = http.client.HTTPConnection(target, timeout=60)
                upstream.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                # The signature covers the host the client named, so every header stays as it is.
                for name, value in self.headers.items():
                    upstream.putheader(name, value)
                upstream.endheaders(body or None)
                got = upstream.getresponse()
                self._answer(got.status, dict(got.getheaders()), got.read(), fault is not None)
                upstream.close()

            def _answer(
                self, status: int, headers: dict[str, str], body: bytes, cut: bool = False
            ) -> None:
                self.send_response_only(status)
                names = {name.lower() for name in headers}
                for name, value in headers.items():
                    if name.lower() not in ("transfer-encoding", "connection"):
                        self.send_header(name, value)
                if "content-length" not in names:
                    self.send_header("content-length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body[: len(body) // 2] if cut else body)
                if cut:
                    self.close_connection = True

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _relay  # noqa: N815

            def log_message(self, *_args: object) -> None:
                """Nobody reads it."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"127.0.0.1:{self.server.server_address[1]}"


@contextmanager
def faulty(target: str, rule: Rule) -> Iterator[Faulty]:
    """A proxy before the service at `target`, for as long as the block lasts."""
    proxy = Faulty(target, rule)
    thread = threading.Thread(target=proxy.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        thread.join()
        proxy.server.server_close()
