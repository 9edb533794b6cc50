"""A headless Chromium, told what to do over a pair of pipes."""

import base64
import json
import os
import selectors
import shutil
import subprocess
import sys
import time

CHROMIUM = next(
    filter(
        None,
        map(
            shutil.which,
            ("chromium", "chromium-browser", "google-chrome", "chrome"),
        ),
    ),
    None,
)
_SECONDS = 30.0
_FLAGS = (
    "--headless=new",
    # A sandbox needs rights that a container does not give.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--remote-debugging-pipe",
)
# Chromium reads commands from 3 and writes answers to 4.
_WITH_PIPES = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page of a browser.

    Args:
        folder: for its profile.
    """

    def __init__(self, folder):
        read, self._write = os.pipe()
        self._read, write = os.pipe()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-SEc", _WITH_PIPES, str(read), str(write)),
                *(CHROMIUM, *_FLAGS, f"--user-data-dir={folder}"),
            ],
            pass_fds=(read, write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read)
        os.close(write)
        self._rest = b""
        self._count = 0
        self.events = []
        self._session = None
        target = self.send("Target.createTarget", url="about:blank")
        self._session = self.send(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.send(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(_SECONDS)
        os.close(self._write)
        os.close(self._read)

    def send(self, method, **params):
        """Sends a command of the DevTools protocol and gives its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _receive(self):
        deadline = time.monotonic() + _SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._read, selectors.EVENT_READ)
            while b"\0" not in self._rest:
                left = deadline - time.monotonic()
                assert left > 0 and selector.select(left), "No answer came."
                part = os.read(self._read, 1 << 16)
                assert part, "The browser has ended."
                self._rest += part
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def go(self, url):
        self.send("Page.navigate", url=url)
        self.wait(
            f"location.href === {json.dumps(url)}"
            " && document.readyState === 'complete'"
        )

    def run(self, expression):
        """Gives the value of an expression of the page."""
        result = self.send(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression):
        """Waits until an expression of the page is true."""
        deadline = time.monotonic() + _SECONDS
        while not self.run(f"Boolean({expression})"):
            assert time.monotonic() < deadline, f"{expression}: {self.text()}"
            time.sleep(0.02)

    def text(self, selector="body"):
        """Gives the lines that are not empty."""
        text = self.run(
            f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"
        )
        return "\n".join(filter(str.strip, text.split("\n")))

    def type(self, text):
        """Types into what has the focus, as a keyboard does."""
        self.send("Input.insertText", text=text)

    def press(self, key, code=0, text=""):
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **({"text": text} if kind == "keyDown" and text else {}),
            )

    def tab(self):
        """Presses the key, and gives the id of what has the focus now."""
        self.press("Tab", 9)
        return self.run("document.activeElement.id")

    def enter(self):
        self.press("Enter", 13, "\r")

    def roles(self):
        """Gives role and name of what a screen reader is told."""
        nodes = self.send("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node["ignored"]
        ]

    def complaints(self):
        """Gives what the browser logged as an error, or threw."""
        return [
            event
            for event in self.events
            if event["method"] == "Runtime.exceptionThrown"
            or event["method"] == "Log.entryAdded"
            and event["params"]["entry"]["level"] == "error"
        ]

    def show(self, width, height=900, scheme="light"):
        """Sets the size of the window, and light or dark."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        self.send(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    def picture(self, path):
        """Writes what the whole page looks like."""
        data = self.send("Page.captureScreenshot", captureBeyondViewport=True)[
            "data"
        ]
        path.write_bytes(base64.b64decode(data))
