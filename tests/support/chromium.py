"""Headless Chromium, driven through its DevTools pipe: pages at a width and in a colour scheme."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
]
SECONDS = 60
"""The longest wait for an answer."""


def find_chromium():
    """The program; None where there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextlib.contextmanager
def chromium(profile):
    """A browser with a fresh profile in an empty folder."""
    (browser_reads, to_browser), (from_browser, browser_writes) = os.pipe(), os.pipe()
    program = f'exec "$0" "$@" 3<&{browser_reads} 4>&{browser_writes}'  # the descriptors that Chromium uses
    command = ["bash", "-c", program, find_chromium(), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, pass_fds=(browser_reads, browser_writes), **quiet)
    os.close(browser_reads)
    os.close(browser_writes)
    browser = Browser(to_browser, from_browser)
    try:
        yield browser
        browser.send("Browser.close")
        process.wait(SECONDS)
    finally:
        process.kill()
        process.wait()
        os.close(to_browser)
        os.close(from_browser)


class Browser:
    """The other end of Chromium's pipe."""

    def __init__(self, to_browser, from_browser):
        self.to_browser, self.from_browser = to_browser, from_browser
        self.rest, self.last, self.events = b"", 0, []

    def send(self, method, session=None, **params):
        """The answer to a command; events that come before it are kept."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self.last:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def wait_for(self, event):
        """Wait until an event has happened."""
        while not any(one["method"] == event for one in self.events):
            self.events.append(self._read())

    def _read(self):
        end = time.monotonic() + SECONDS
        while b"\0" not in self.rest:
            assert select.select([self.from_browser], [], [], max(0, end - time.monotonic()))[0], "Chromium is silent"
            part = os.read(self.from_browser, 1 << 20)
            assert part, "Chromium has ended"
            self.rest += part
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def open(self, url, width, scheme="light", height=800):
        """A page in a new tab, at a width and in a colour scheme, once it is loaded."""
        self.events = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.send(f"{domain}.enable", session)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", session, **size)
        self.send("Emulation.setScrollbarsHidden", session, hidden=True)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", session, features=features)
        self.events = []
        self.send("Page.navigate", session, url=url)
        self.wait_for("Page.loadEventFired")
        return Tab(self, session)


class Tab:
    """An open page."""

    def __init__(self, browser, session):
        self.browser, self.session = browser, session

    def evaluate(self, expression):
        """The value of a JavaScript expression."""
        answer = self.browser.send("Runtime.evaluate", self.session, expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def requests(self):
        """The addresses that the page has asked for, itself included."""
        return [
            e["params"]["request"]["url"] for e in self.browser.events if e["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self):
        """What the browser has written to its console about the page."""
        kinds = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [e["params"] for e in self.browser.events if e["method"] in kinds]

    def screenshot(self, full=True):
        """A PNG of the page, or of what is in view."""
        answer = self.browser.send(
            "Page.captureScreenshot", self.session, captureBeyondViewport=full, **self._clip(full)
        )
        return base64.b64decode(answer["data"])

    def _clip(self, full):
        if not full:
            return {}
        size = self.browser.send("Page.getLayoutMetrics", self.session)["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}
