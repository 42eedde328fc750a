"""Drives a headless Chromium by its DevTools protocol, over a pair of pipes.

The tests need a few commands of it; a library for them would be larger than the browser's page.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

CHECKOUT = Path(__file__).parents[2]
PATIENCE = 40.0
"""Seconds in which a page has to do what a test waits for; the machine may be busy."""
_KEYS = {"Enter": 13, "Escape": 27, "Home": 36, "End": 35, "PageUp": 33, "PageDown": 34, "Tab": 9}
_KEYS |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
_TEXTS = {"Enter": "\r"}


class Chromium:
    """A browser without windows, which ends with the context.

    Parameters
    ----------
    profile : Path
        A folder of its own.
    """

    def __init__(self, profile: Path) -> None:
        self._profile = profile
        self._program = shutil.which("chromium") or _missing("chromium is not installed")
        self._number = 0
        self._rest = b""
        self._answers: dict[int, dict[str, Any]] = {}
        self._pages: dict[str, Page] = {}

    def __enter__(self) -> Chromium:
        theirs, self._to = os.pipe()
        self._from, ours = os.pipe()
        # The browser reads its file 3 and writes its file 4. A shell sets these, since a function
        # that runs between fork and exec is not safe beside threads.
        redirected = f'exec "$@" 3<&{theirs} 4>&{ours}'
        self._process = subprocess.Popen(
            ["bash", "-c", redirected, "bash", self._program, *_options(self._profile)],
            pass_fds=(theirs, ours),
            env={**os.environ, "TMPDIR": str(self._profile)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs)
        os.close(ours)
        self.send("Browser.getVersion")
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, Failed):
            self.send("Browser.close")
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def send(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Send a command; return its result."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while number not in self._answers:
            self.receive(deadline, method)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise Failed(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def receive(self, deadline: float, what: str) -> None:
        """Wait for messages of the browser, and keep them where they belong."""
        ready, _, _ = select.select([self._from], [], [], max(deadline - time.monotonic(), 0))
        data = os.read(self._from, 1 << 20) if ready else b""
        if not data:
            raise Failed(f"the browser does not answer: {what}")
        *messages, self._rest = (self._rest + data).split(b"\0")
        for text in messages:
            message = json.loads(text)
            if "id" in message:
                self._answers[message["id"]] = message
            elif page := self._pages.get(message.get("sessionId", "")):
                page.note(message["method"], message["params"])

    @contextlib.contextmanager
    def page(
        self, width: int = 1280, height: int = 800, dark: bool = False, is_fresh: bool = False
    ) -> Iterator[Page]:
        """Yield a new page."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session)
        try:
            page.prepare(width, height, dark)
            page.send("Network.setCacheDisabled", cacheDisabled=is_fresh)
            yield page
        finally:
            self.send("Target.closeTarget", targetId=target)
            del self._pages[session]


class Page:
    """A page of the browser.

    Attributes
    ----------
    errors : list of str
        What the page has written to its console as an error, and exceptions that nobody caught.
    requests : list of str
        The addresses of all requests.
    sizes : list of int
        The bytes of all responses on the wire.
    """

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser = browser
        self._session = session
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.sizes: list[int] = []
        self._loads = 0

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command for this page."""
        return self._browser.send(method, self._session, **parameters)

    def prepare(self, width: int, height: int, dark: bool) -> None:
        """Set the size and the colours, and begin to listen."""
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.colour(dark)
        self.resize(width, height)

    def colour(self, dark: bool) -> None:
        """Prefer dark or light colours."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def resize(self, width: int, height: int) -> None:
        """Give the page another size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)

    def note(self, event: str, facts: dict[str, Any]) -> None:
        """Take an event of the browser."""
        if event == "Page.loadEventFired":
            self._loads += 1
        elif event == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])
        elif event == "Network.loadingFinished":
            self.sizes.append(int(facts["encodedDataLength"]))
        elif event == "Runtime.exceptionThrown":
            self.errors.append(_described(facts["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning"):
            self.errors.append(" ".join(str(each.get("value")) for each in facts["args"]))
        elif event == "Log.entryAdded" and facts["entry"]["level"] == "error":
            entry = facts["entry"]
            self.errors.append(f"{entry['text']} {entry.get('url', '')}")

    # --- What a person does ---

    def open(self, address: str) -> None:
        """Go to an address, and wait until it is loaded."""
        with self.loading():
            self.send("Page.navigate", url=address)

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Wait at the end of the block until another page is loaded."""
        before = self._loads
        yield
        deadline = time.monotonic() + PATIENCE
        while self._loads == before:
            self._browser.receive(deadline, "loading")

    def back(self) -> None:
        """Go back by the browser's button."""
        history = self.send("Page.getNavigationHistory")
        entry = history["entries"][history["currentIndex"] - 1]
        with self.loading():
            self.send("Page.navigateToHistoryEntry", entryId=entry["id"])

    def click(self, selector: str, count: int = 1) -> None:
        """Click in the middle of an element, when it is there."""
        x, y = self._middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self._mouse(kind, x, y, clickCount=count)

    def drag(self, selector: str, right: int, down: int, button: str = "left") -> None:
        """Press the mouse in the middle of an element, move, and release it."""
        x, y = self._middle(selector)
        self._mouse("mousePressed", x, y, button, clickCount=1)
        for step in (1, 2):
            self._mouse("mouseMoved", x + right * step / 2, y + down * step / 2, button)
        self._mouse("mouseReleased", x + right, y + down, button, clickCount=1)

    def wheel(self, selector: str, down: int) -> None:
        """Turn the wheel over an element."""
        x, y = self._middle(selector)
        self.send("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=down)

    def type(self, text: str) -> None:
        """Type a text, key by key, where the focus is: the first frame of a page brings it."""
        self.wait("document.activeElement !== document.body")
        for letter in text:
            self.send("Input.dispatchKeyEvent", type="keyDown", text=letter, key=letter)
            self.send("Input.dispatchKeyEvent", type="keyUp", key=letter)

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press a key such as "Enter"."""
        facts: dict[str, Any] = {"key": key, "code": key, "modifiers": modifiers}
        if key in _KEYS:
            facts["windowsVirtualKeyCode"] = _KEYS[key]
        text = _TEXTS.get(key, key if len(key) == 1 else "")
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **facts)
        self.send("Input.dispatchKeyEvent", type="keyUp", **facts)

    def choose_files(self, selector: str, paths: list[Path]) -> None:
        """Choose files, as in the dialog of an element."""
        found = self.send("Runtime.evaluate", expression=f"document.querySelector({_js(selector)})")
        files = [str(path) for path in paths]
        self.send("DOM.setFileInputFiles", files=files, objectId=found["result"]["objectId"])

    def drop_files(self, selector: str, paths: list[Path]) -> None:
        """Drag files or folders from outside, and drop them on an element."""
        x, y = self._middle(selector)
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.send("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def _mouse(self, kind: str, x: float, y: float, button: str = "left", **more: int) -> None:
        buttons = {"left": 1, "right": 2, "middle": 4}[button]
        self.send(
            "Input.dispatchMouseEvent",
            type=kind,
            x=x,
            y=y,
            button=button,
            buttons=buttons,
            **more,
        )

    def _middle(self, selector: str) -> tuple[float, float]:
        """Return the middle of an element, when it is there and in view."""
        self.wait(
            f"(() => {{ const e = document.querySelector({_js(selector)});"
            " return e && e.checkVisibility() && !e.disabled })()",
            selector,
        )
        box = self.value(
            f"(() => {{ const e = document.querySelector({_js(selector)});"
            " e.scrollIntoView({block: 'center', behavior: 'instant'});"
            " const box = e.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2] })()"
        )
        return box[0], box[1]

    # --- What a person sees ---

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; of its result, if it is a promise."""
        found = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise Failed(_described(found["exceptionDetails"]))
        return found["result"].get("value")

    def text(self, selector: str) -> str:
        """Return the text of an element as it is shown; "" if there is none."""
        found: str = self.value(f"document.querySelector({_js(selector)})?.innerText ?? ''")
        return found

    def sees(self, selector: str) -> bool:
        """Return whether an element is shown."""
        found: bool = self.value(
            f"document.querySelector({_js(selector)})?.checkVisibility() ?? false"
        )
        return found

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all such elements."""
        found: list[str] = self.value(
            f"[...document.querySelectorAll({_js(selector)})].map(each => each.innerText)"
        )
        return found

    def wait(self, expression: str, what: str = "") -> None:
        """Wait until a JavaScript expression is true."""
        self.until(lambda: self.value(f"!!({expression})"), what or expression)

    def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise Failed(f"not so in time: {what}; errors: {self.errors}")
            self.value("new Promise(requestAnimationFrame)")

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """Save what the page looks like as a PNG, also what is out of view."""
        found = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))


def axe_source() -> str:
    """Return the program that looks for barriers in a page."""
    path = CHECKOUT / ".peers" / "node_modules" / "axe-core" / "axe.min.js"
    return path.read_text() if path.exists() else _missing(f"there is no {path}")


def ohif_folder() -> Path:
    """Return the folder with the files of OHIF."""
    path = CHECKOUT / ".peers" / "ohif-app-3.13.2"
    return path if path.is_dir() else _missing(f"there is no {path}")


def _missing(reason: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


class Failed(AssertionError):
    """The browser, or the page, does not do what it should."""


def _described(details: dict[str, Any]) -> str:
    exception = details.get("exception", {})
    return str(exception.get("description", details["text"]))


def _js(text: str) -> str:
    return json.dumps(text)


def _options(profile: Path) -> list[str]:
    return [
        "--headless",
        "--no-sandbox",  # continuous integration runs as root
        "--disable-gpu",
        # One process for all pages, and none for drawing: to start one takes longer than a page.
        "--in-process-gpu",
        "--renderer-process-limit=1",
        "--process-per-site",
        "--disable-site-isolation-trials",
        "--disable-features=SpareRendererForSitePerProcess,OptimizationHints,OnDeviceModelService",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--no-default-browser-check",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-extensions",
        "--disable-sync",
        "--hide-scrollbars",
        "--mute-audio",
        "--remote-debugging-pipe",
        f"--user-data-dir={profile}",
        "about:blank",
    ]
