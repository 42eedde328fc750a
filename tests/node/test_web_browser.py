"""What a real browser lets pages do with the archive: ours, and those of other origins."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from chromium import Chromium, Page
from running_node import make_object, store
from web_client import Serving, serving

from dicomwire.node import users as users_module
from dicomwire.node.users import UserRight, Users
from dicomwire.node.web.sessions import COOKIE

PASSWORD = "correct horse"
STUDY = "/dicom-web/studies/1.2.3"
ATTEMPTS = f"""
(async () => {{
  const done = [];
  const attempt = async (path, options) => {{
    try {{
      const response = await fetch(ARCHIVE + path, options);
      done.push(response.type + response.status);
    }} catch (error) {{ done.push("failed"); }}
  }};
  await attempt("{STUDY}");
  await attempt("{STUDY}", {{mode: "no-cors", credentials: "include"}});
  await attempt("{STUDY}", {{method: "DELETE", credentials: "include"}});
  const body = JSON.stringify({{studies: ["1.2.3"]}});
  await attempt("/api/delete", {{mode: "no-cors", method: "POST", body, credentials: "include"}});
  const image = await new Promise(resolve => {{
    const shown = new Image();
    shown.onload = () => resolve("shown");
    shown.onerror = () => resolve("failed");
    shown.src = ARCHIVE + "/static/icon.svg";
  }});
  window.done = [...done, image];
}})();
"""
"""What a page of another origin may try: to read, to delete, to show an image of ours."""


@contextmanager
def page_elsewhere(script: str) -> Iterator[str]:
    """Serve a page of another origin on this machine; yield its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f"<!doctype html><script>{script}</script>".encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    monkeypatch.setattr(users_module, "_COST", 2)
    with serving(tmp_path) as site:
        store(site.node, make_object())
        yield site


def log_in(page: Page, root: str, path: str) -> None:
    """Open a page, and log in on the way to it."""
    page.open(root + path)
    page.click("input[name=name]")
    page.type("jane")
    page.click("input[name=password]")
    page.type(PASSWORD)
    with page.loading():
        page.press("Enter")


@pytest.mark.parametrize("has_users", [False, True])
def test_a_page_of_another_origin_can_do_nothing(
    browser: Chromium, site: Serving, tmp_path: Path, has_users: bool
) -> None:
    root = str(site.client.base_url).rstrip("/")
    script = f"const ARCHIVE = '{root}';{ATTEMPTS}"
    with page_elsewhere(script) as address, browser.page() as page:
        if has_users:
            Users(tmp_path / "users.json").add("jane", tuple(UserRight), (), PASSWORD)
            log_in(page, root, "/")
        page.open(address)
        page.wait("window.done")
        assert page.value("window.done") == ["failed"] * 5
        page.open(f"{root}/")
        assert page.sees("table.studies tbody tr") or has_users


def test_a_user_logs_in_goes_on_and_logs_out(
    browser: Chromium, site: Serving, tmp_path: Path
) -> None:
    Users(tmp_path / "users.json").add("jane", (UserRight.SEE,), (), PASSWORD)
    root = str(site.client.base_url).rstrip("/")
    with browser.page() as page:
        log_in(page, root, "/study/1.2.3")
        assert page.value("location.pathname") == "/study/1.2.3"
        assert COOKIE not in page.value("document.cookie")
        with page.loading():
            page.click("form.user button")
        assert page.value("location.pathname") == "/login"
        page.open(f"{root}/study/1.2.3")
        assert page.value("location.pathname") == "/login"
