"""A headless Chromium that tests drive by the DevTools protocol over a pair of pipes, which needs no package."""

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
WAIT = 30  # seconds


class Browser:
    """One window of `width` by `height` px; `folder` gets its profile."""

    def __init__(self, folder: Path, width: int = 1280, height: int = 800):
        (incoming, self._write), (self._read, outgoing) = os.pipe(), os.pipe()

        def as_three_and_four() -> None:  # the file descriptors on which Chromium reads and answers
            one, other = os.dup(incoming), os.dup(outgoing)
            os.dup2(one, 3)
            os.dup2(other, 4)

        self._process = subprocess.Popen(
            [PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars",
             "--no-first-run", f"--user-data-dir={folder}", f"--window-size={width},{height}", "about:blank"],
            preexec_fn=as_three_and_four, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(incoming)
        os.close(outgoing)
        self._number, self._buffer, self.said = 0, b"", []
        (page, *_) = [target for target in self._targets() if target["type"] == "page"]
        self._session = self._call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)

    def _targets(self) -> list[dict]:
        deadline = time.monotonic() + WAIT
        while not (targets := self._call("Target.getTargets")["targetInfos"]) and time.monotonic() < deadline:
            time.sleep(0.05)
        return targets

    def _call(self, method: str, **parameters: Any) -> dict:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._buffer:
                piece = os.read(self._read, 1 << 20)
                assert piece, "Chromium has ended"
                self._buffer += piece
            text, _, self._buffer = self._buffer.partition(b"\0")
            answer = json.loads(text)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict) -> None:
        """Keep what the page complains of, and what it loads from elsewhere than the disk."""
        kind, what = event.get("method"), event.get("params", {})
        if kind in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.said.append(json.dumps(what))
        elif kind == "Network.requestWillBeSent" and not what["request"]["url"].startswith(("file:", "about:")):
            self.said.append(what["request"]["url"])

    def open(self, address: str) -> None:
        """A fresh page, though the address differs from the last one only after its #."""
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """The value of an expression, or of the promise that it is."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until an expression is true."""
        deadline = time.monotonic() + WAIT
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < deadline, f"{condition} has not come true; {self.said}"
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """A key by its name: ArrowRight, Escape, t."""
        text = {"text": key} if len(key) == 1 else {}
        self._call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self._call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def move(self, x: float, y: float) -> None:
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        os.close(self._write)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
