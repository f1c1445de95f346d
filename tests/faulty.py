"""A proxy in front of the S3 service of the tests that answers wrongly when it is told to."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

# What to do with a request, by its method (COPY for a copy within the service) and how often it
# came for the same object before.
Fault = (
    Literal["503", "403", "cut the answer", "cut the request"]
    | Literal["an error in a 200", "a lie", "other bytes"]
    | None
)
Rule = Callable[[str, int], Fault]
SLOW_DOWN = (
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
# S3 begins its answer before a copy is done, so that a failure can only be told in its body.
FAILED_LATE = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b"<Error><Code>InternalError</Code><Message>Please try again.</Message></Error>"
)
LIE = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<CopyObjectResult>'
    b"<ETag>&quot;00000000000000000000000000000000&quot;</ETag></CopyObjectResult>"
)


class Service(ThreadingHTTPServer):
    """Takes many connections at once."""

    request_queue_size = 128
    daemon_threads = True


class Faulty:
    """The proxy: `endpoint`, how many `requests` came, how many `faults` were answered.

    `bytes` counts the contents of objects that passed, in both directions. Questions whether an
    object is there (other than a manifest or a list of objects) wait for each other until `gather`
    of them are under way; `most` were at once.
    """

    def __init__(self, target: str, rule: Rule) -> None:
        self.requests = 0
        self.faults = 0
        self.bytes = 0
        self.gather = self.most = 0
        asked = 0
        gathering = threading.Condition()
        self.seen: Counter[tuple[str, str]] = Counter()
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Else the body of an answer waits 40 ms for the client to acknowledge the head.
            disable_nagle_algorithm = True

            def _relay(self) -> None:
                nonlocal asked
                alone = self.path.endswith(("/manifest.json", "/objects.parquet"))
                if self.command != "HEAD" or alone:
                    self._pass_on()
                    return
                with gathering:
                    asked += 1
                    outer.most = max(outer.most, asked)
                    gathering.notify_all()
                    if not gathering.wait_for(lambda: outer.most >= outer.gather, timeout=60):
                        outer.gather = 0
                self._pass_on()
                with gathering:
                    asked -= 1

            def _pass_on(self) -> None:
                with lock:
                    path = self.path.partition("?")[0]
                    copies = "x-amz-copy-source" in self.headers
                    method = "COPY" if copies else self.command
                    fault = rule(method, outer.seen[method, path])
                    outer.seen[method, path] += 1
                    outer.requests += 1
                    outer.faults += fault is not None
                length = int(self.headers.get("content-length") or 0)
                if fault == "cut the request":
                    self.rfile.read(length // 2)
                    self.close_connection = True
                    return
                body = self.rfile.read(length)
                answers = {
                    "503": (503, SLOW_DOWN),
                    "403": (403, DENIED),
                    "an error in a 200": (200, FAILED_LATE),
                    "a lie": (200, LIE),
                }
                if fault in answers:
                    status, said = answers[fault]
                    self._answer(status, {}, said)
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
                data = got.read()
                if not copies and "?" not in self.path:
                    with lock:
                        outer.bytes += length + len(data)
                if fault == "other bytes" and data and "?" not in self.path:
                    data = data[:-1] + bytes([data[-1] ^ 1])
                cut = fault == "cut the answer"
                self._answer(got.status, dict(got.getheaders()), data, cut)
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

        self.server = Service(("127.0.0.1", 0), Handler)
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
