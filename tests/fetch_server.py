"""A server on this machine that gives toy archives under the addresses of the real ones, with faults on demand."""

import hashlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Ranges, entity tags, and for each path a list of faults, of which each request uses up one."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):  # noqa: N802 - its name
        server, content = self.server, self.server.files.get(self.path)
        server.requests.append((self.path, self.headers.get("Range")))
        faults = server.faults[self.path]
        fault, *details = faults.pop(0) if faults else ("none",)
        if content is None or fault == "status":
            self.answer(details[0] if fault == "status" else 404, b"no")
            return
        if fault == "garbled":
            content = content[:-1] + bytes([content[-1] ^ 1])
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if start and (not server.ranges or self.headers.get("If-Range") not in (None, tag)):
            start = 0
        if start > len(content) or (start == len(content) and start):
            self.answer(416, b"")
            return
        headers = {"ETag": tag, "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        sent = content[start:] if fault != "cut" else content[start : start + details[0]]
        self.answer(206 if start else 200, sent, len(content) - start, headers)

    def answer(self, status, body, length=None, headers=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.server.pace:
            for at in range(0, len(body), 4096):
                self.wfile.write(body[at : at + 4096])
                self.wfile.flush()
                self.server.stop.wait(self.server.pace)
        else:
            self.wfile.write(body)
        if length is not None and length > len(body):
            self.close_connection = True  # as when a connection breaks


class Server(ThreadingHTTPServer):
    """Silent about connections that are closed at the other end."""

    def handle_error(self, *_):
        pass


@contextmanager
def serve(files: dict[str, bytes], ranges: bool = True) -> Iterator[ThreadingHTTPServer]:
    """Files by host and path, `example.org/a.zip`. The server's `url`, `faults`, `requests`, and `pace` between pieces.

    A fault is ("status", 503), ("cut", bytes that are sent) or ("garbled",).
    """
    server = Server(("127.0.0.1", 0), Handler)
    server.files = {f"/{name}": content for name, content in files.items()}
    server.faults, server.requests, server.ranges = defaultdict(list), [], ranges
    server.pace, server.stop, server.daemon_threads = 0, threading.Event(), True
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.stop.set()
        server.shutdown()
        thread.join()
        server.server_close()
