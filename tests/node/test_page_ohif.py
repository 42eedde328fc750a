"""OHIF, whose files the node serves beside its page: it shows a series of the archive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Chromium, ohif_folder
from looking import Person, people
from shown_archive import HEAD, shown
from web_client import serving

LIGHT = (
    "(() => { const c = document.querySelector('canvas.cornerstone-canvas'); if (!c) return 0;"
    " const d = c.getContext('2d')?.getImageData(0, 0, c.width, c.height).data ?? [];"
    " return d.reduce((most, value, at) => at % 4 === 3 ? most : Math.max(most, value), 0) })()"
)
"""The brightest colour of the image."""


@pytest.fixture
def person(browser: Chromium, tmp_path: Path) -> Iterator[Person]:
    with shown(tmp_path / "archive", viewer=str(ohif_folder())) as served:
        yield from people(browser, served)


def test_a_study_is_opened_in_ohif(person: Person) -> None:
    page = person.open(f"/study/{HEAD}")
    with page.loading():
        page.click(".buttons a[href^='/viewer']")
    page.until(lambda: page.value(LIGHT) > 200)
    page.until(lambda: "1/10" in page.text("body"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder like that of OHIF, and a file beside it."""
    (tmp_path / "secret.txt").write_text("secret")
    files = tmp_path / "dist"
    (files / "assets").mkdir(parents=True)
    (files / "index.html").write_text("<script>one</script><script>two</script>")
    (files / "assets" / "a.wasm").write_bytes(b"\0asm")
    (files / "app-config.js").write_text("theirs")
    return files


def test_only_files_of_the_folder_are_served(folder: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "archive", viewer=str(folder)) as served:
        get = served.client.get
        page = get("/viewer").raise_for_status()
        policy = page.headers["content-security-policy"]
        assert policy.count("'sha256-") == 2
        assert "script-src 'self' 'wasm-unsafe-eval' blob: 'sha256-" in policy
        assert get("/assets/a.wasm").headers["content-type"] == "application/wasm"
        assert '"/dicom-web"' in get("/app-config.js").text
        for path in ("/index.html", "/%2e%2e/secret.txt", "/assets/%2e%2e%2f%2e%2e%2fsecret.txt"):
            assert get(path).status_code == 404


def test_without_a_folder_there_is_no_viewer(tmp_path: Path) -> None:
    with shown(tmp_path / "archive") as served:
        assert "OHIF" not in served.client.get(f"/study/{HEAD}").text
        assert served.client.get("/viewer").status_code == 404
        assert served.client.get("/app-config.js").status_code == 404
