"""Somebody who looks at the pages of an archive: what tests with a browser share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from chromium import Chromium, Page, axe_source
from web_client import Serving


class Person:
    """Opens pages of a node."""

    def __init__(self, browser: Chromium, served: Serving, opened: ExitStack) -> None:
        self._browser, self._opened = browser, opened
        self.root = str(served.client.base_url).rstrip("/")
        self.served = served
        self.pages: list[Page] = []
        self.expected = "no error"
        """A part of the errors that the console may have."""

    def open(self, path: str, **how: Any) -> Page:
        """Open a page in a new window."""
        page = self._opened.enter_context(self._browser.page(**how))
        self.pages.append(page)
        page.open(self.root + path)
        return page


def people(browser: Chromium, served: Serving) -> Iterator[Person]:
    """Yield a person; no page may have an error on its console, or ask another host."""
    with ExitStack() as opened:
        person = Person(browser, served, opened)
        yield person
        for page in person.pages:
            assert [each for each in page.errors if person.expected not in each] == []
            others = [each for each in page.requests if not each.startswith(person.root)]
            assert [each for each in others if not each.startswith(("blob:", "data:"))] == []


def barriers(page: Page) -> list[str]:
    """Return what axe finds to be serious."""
    page.value(axe_source() + "; 0")
    found: list[str] = page.value(
        "axe.run({resultTypes: ['violations']}).then(({violations}) => violations"
        ".filter(({impact}) => ['serious', 'critical'].includes(impact))"
        ".map(each => each.id + ': ' + each.nodes.map(node => node.html).join(' ')))"
    )
    return found
