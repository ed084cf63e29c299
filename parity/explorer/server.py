"""Serves a page to this machine alone, and answers with the class capsules of each wing.

GET  /        the page
POST /poses   {"image": [pixels]} -> {"torch": [numbers], "jax": [numbers]}, flat [J, D]
"""

import functools
import http.server
import json
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from parity.spec import NetworkSpec, TwincapsError

HOST = "127.0.0.1"
# image [H, W, C] -> poses [J, D], by wing
Answer = Callable[[np.ndarray], dict[str, np.ndarray]]


def make_server(
    page: bytes, spec: NetworkSpec, answer: Answer, port: int
) -> http.server.ThreadingHTTPServer:
    """A server of a page, not yet running; its port is `server.server_port`.

    Raises:
        TwincapsError: Where the port is taken or none.
    """
    # One image at a time: the wings have their own threads.
    handler = functools.partial(_Handler, page, spec.image, answer, threading.Lock())
    try:
        return http.server.ThreadingHTTPServer((HOST, port), handler)
    except (OSError, OverflowError) as error:
        raise TwincapsError(
            f"--port {port}: cannot be served at ({error}); expected a free one from 1024 to "
            "65535, or 0 for any"
        ) from error


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers the two requests above, of pages from this very address alone."""

    def __init__(
        self,
        page: bytes,
        image_shape: tuple[int, int, int],
        answer: Answer,
        lock: threading.Lock,
        *connection: Any,
    ):
        self.page, self.image_shape, self.answer, self.lock = page, image_shape, answer, lock
        super().__init__(*connection)  # which answers the request

    def do_GET(self) -> None:
        if self._is_foreign():
            return self._reply(403, b"served to this machine alone", "text/plain")
        if self.path != "/":
            return self._reply(404, b"there is / alone", "text/plain")
        return self._reply(200, self.page, "text/html; charset=utf-8")

    def do_POST(self) -> None:
        if self._is_foreign():
            return self._reply(403, b"served to this machine alone", "text/plain")
        if self.path != "/poses":
            return self._reply(404, b"there is /poses alone", "text/plain")
        try:
            image = self._image()
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            return self._reply(400, f"no image: {error}".encode(), "text/plain")
        with self.lock:
            answers = self.answer(image)
        poses = {wing: array.ravel().tolist() for wing, array in answers.items()}
        return self._reply(200, json.dumps(poses).encode(), "application/json")

    def _is_foreign(self) -> bool:
        """Whether another site asks, by a name of its own for this address or from its own page."""
        port = self.server.server_port  # pyright: ignore[reportAttributeAccessIssue]
        ours = {f"{name}:{port}" for name in (HOST, "localhost")}
        origin = self.headers.get("Origin", "")
        return self.headers.get("Host") not in ours or (
            origin != "" and origin.removeprefix("http://") not in ours
        )

    def _image(self) -> np.ndarray:
        count = math.prod(self.image_shape)
        size = int(self.headers.get("Content-Length", 0))
        if not 0 < size <= 40 * count + 100:  # a number has at most some 25 letters
            raise ValueError(f"{size} bytes; expected {count} numbers as JSON")
        image = np.array(json.loads(self.rfile.read(size))["image"], np.float32)
        if image.shape != (count,) or not ((image >= 0) & (image <= 1)).all():
            raise ValueError(f"expected {count} numbers from 0 to 1")
        return image.reshape(self.image_shape)

    def _reply(self, code: int, content: bytes, kind: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing of each request."""
