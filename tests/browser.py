"""A headless Chromium, driven through its DevTools by two pipes: no package is needed for it."""

import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATH = next(filter(None, map(shutil.which, NAMES)), None)
PATIENCE = 120  # seconds, far more than anything here takes


class Browser:
    """One page of a Chromium, and all that it logs; a context manager.

    Args:
        width: Of its window, CSS pixels.
        height: Alike.
        dark: Whether it prefers the dark scheme.
        touch: Whether it is a phone: touch, and a viewport of its own.
    """

    def __init__(self, width=1280, height=900, dark=False, touch=False) -> None:
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        # Chromium reads requests from descriptor 3 and writes answers to 4, each ended by a NUL.
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        flags += ["--remote-debugging-pipe", f"--user-data-dir={self.folder.name}", "about:blank"]
        shell = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self.process = subprocess.Popen(
            ["bash", "-c", shell, str(PATH), *flags],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.input, self.output = ours_out, ours_in
        self.numbers, self.rest, self.session = itertools.count(1), b"", None
        self.events: list[dict[str, Any]] = []
        target = next(
            each["targetId"]
            for each in self("Target.getTargets")["targetInfos"]
            if each["type"] == "page"
        )
        self.session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page", "Network"):
            self(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if touch else 1}
        self("Emulation.setDeviceMetricsOverride", **size, mobile=touch)
        if touch:
            self("Emulation.setTouchEmulationEnabled", enabled=True)

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.input)
        os.close(self.output)
        self.folder.cleanup()

    def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        """What Chromium answers to a method of its DevTools protocol."""
        number = next(self.numbers)
        request = {"id": number, "method": method, "params": params}
        if self.session is not None:
            request["sessionId"] = self.session
        os.write(self.input, json.dumps(request).encode() + b"\0")
        while (message := self._read()).get("id") != number:
            self.events.append(message)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        return message["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            if not select.select([self.output], [], [], PATIENCE)[0]:
                raise TimeoutError("Chromium says nothing")
            more = os.read(self.output, 1 << 20)
            if not more:
                raise RuntimeError("Chromium has ended")
            self.rest += more
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def open(self, url: str, until: str) -> None:
        """Opens a page, and waits until an expression holds there."""
        self("Page.navigate", url=url)
        self.wait(until)

    def run(self, expression: str) -> Any:
        """The value of an expression of JavaScript in the page."""
        how = {"returnByValue": True, "awaitPromise": True}
        answer = self("Runtime.evaluate", expression=expression, **how)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Waits until an expression holds."""
        end = time.monotonic() + PATIENCE
        while not self.run(expression):
            if time.monotonic() > end:
                raise TimeoutError(expression)
            time.sleep(0.05)

    def drag(self, points: list[tuple[float, float]]) -> None:
        """Moves a pressed pointer through points of the window."""
        for n, (x, y) in enumerate(points):
            kind = "mouseMoved" if n else "mousePressed"
            self(
                "Input.dispatchMouseEvent",
                type=kind,
                x=x,
                y=y,
                button="left",
                buttons=1,
                clickCount=1,
            )
        x, y = points[-1]
        self(
            "Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left", clickCount=1
        )

    def swipe(self, points: list[tuple[float, float]]) -> None:
        """The same with a finger."""
        for n, (x, y) in enumerate(points):
            kind = "touchMove" if n else "touchStart"
            self("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y}])
        self("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, key: str, shift: bool = False) -> None:
        """Presses a key, by its name: "ArrowUp"."""
        codes = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        codes |= {"Escape": 27, "Enter": 13, "Tab": 9, "Home": 36, "End": 35}
        held = {"key": key, "code": key, "windowsVirtualKeyCode": codes.get(key, 0)}
        held["modifiers"] = 8 if shift else 0
        text = {"text": "\r"} if key == "Enter" else {}
        self("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **held, **text)
        self("Input.dispatchKeyEvent", type="keyUp", **held)

    @property
    def faults(self) -> list[Any]:
        """All that the page logged or threw, and every request that left it."""
        self.run("0")  # what it said before is read by now
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [each["params"] for each in self.events if each.get("method") in kinds]

    @property
    def requests(self) -> list[str]:
        """The addresses that the page asked for, but those of data."""
        self.run("0")
        kind = "Network.requestWillBeSent"
        sent = [each["params"] for each in self.events if each.get("method") == kind]
        urls = [each["request"]["url"] for each in sent]
        return [url for url in urls if not url.startswith("data:")]
