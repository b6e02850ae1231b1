"""Serves a folder with ranges, as object stores do: `python range_server.py FOLDER LOG` prints its port.

In a process of its own, as rasterio keeps Python from running while it opens a file: a thread could not answer.
Each answer's bytes are a line of LOG.
"""

import sys
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Ranges(BaseHTTPRequestHandler):
    """Answers GET and HEAD, whole or in part."""

    def __init__(self, folder: Path, log: Path, *args: Any) -> None:
        self._folder, self._log = folder, log
        super().__init__(*args)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer(self, *, body: bool) -> None:
        path = self._folder / self.path.partition("?")[0].lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        first, last = 0, len(data) - 1
        if given := self.headers.get("Range"):
            begin, _, end = given.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(int(end or last), last)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if body:
            self.wfile.write(data[first : last + 1])
            with self._log.open("a") as log:
                log.write(f"{last - first + 1}\n")


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, Path(sys.argv[1]), Path(sys.argv[2])))
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()
