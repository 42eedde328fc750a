"""The viewer as a person uses it, in a browser: each tool, by mouse and keys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chromium import Chromium, Page
from looking import Person, barriers, people
from shown_archive import HEAD, HEART, KNEE, REPORT, shown
from web_client import Serving

SHIFT, CONTROL = 8, 2
MIDDLE = (
    "(() => { const c = document.querySelector('.viewport canvas');"
    " return [...c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data] })()"
)
"""The colour in the middle of the image."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with shown(tmp_path_factory.mktemp("shown") / "archive") as served:
        yield served


@pytest.fixture
def person(browser: Chromium, archive: Serving) -> Iterator[Person]:
    yield from people(browser, archive)


@pytest.fixture
def page(person: Person) -> Page:
    """The viewer with a CT of ten images."""
    page = person.open(f"/view/{HEAD}")
    shows(page, 1)
    return page


def shows(page: Page, image: int, viewport: int = 1) -> None:
    """Wait until a viewport shows an image."""
    element = f"document.querySelectorAll('.viewport')[{viewport - 1}]"
    page.wait(
        f"{element}.dataset.image === '{image}' && !{element}.querySelector('.said').innerText"
    )


def how(page: Page) -> str:
    """Return what the viewer says of the image: window, zoom, lengths."""
    return page.text(".how")


def test_images_are_scrolled_by_keys_and_wheel(page: Page) -> None:
    assert page.text(".where") == "1 / 10"
    assert page.text(".who").startswith("Doe, Jane\nP1")
    page.press("ArrowDown")
    shows(page, 2)
    second = page.value(MIDDLE)
    page.wheel(".viewport", 40)
    shows(page, 3)
    assert page.value(MIDDLE) != second
    page.press("End")
    shows(page, 10)
    page.press("PageUp")
    shows(page, 1)
    page.press("PageDown")
    shows(page, 10)
    page.press("Home")
    shows(page, 1)
    page.value(
        "const place = document.getElementById('place'); place.value = 5;"
        " place.dispatchEvent(new Event('input'))"
    )
    shows(page, 5)
    page.wait(f"location.search === '?series={HEAD}.1&image=5'")


def test_the_address_leads_to_an_image(person: Person) -> None:
    page = person.open(f"/view/{HEAD}?series={HEAD}.1&image=7")
    shows(page, 7)


def test_the_window_is_dragged_chosen_and_reset(page: Page) -> None:
    assert how(page).startswith("Window 40 / 400")
    page.drag(".viewport", 100, 0)
    page.until(lambda: how(page).startswith("Window 40 / 5"))
    page.drag(".viewport", 0, -100)
    page.until(lambda: not how(page).startswith("Window 40 /"))
    page.press("5")
    page.until(lambda: how(page).startswith("Window 50 / 350"))
    page.press("ArrowDown", SHIFT)
    page.until(lambda: how(page).startswith("Window 64 / 350"))
    page.press("r")
    page.until(lambda: how(page).startswith("Window 40 / 400"))


def test_an_image_is_inverted(page: Page) -> None:
    grey = page.value(MIDDLE)[0]
    page.press("i")
    page.until(lambda: page.value(MIDDLE)[0] == 255 - grey)


def test_zoom_and_pan(page: Page) -> None:
    page.press("+")
    page.until(lambda: "120 %" in how(page))
    page.drag(".viewport", 0, -70, button="right")
    page.until(lambda: "120 %" not in how(page))
    page.press("r")
    page.press("z")
    page.drag(".viewport", 0, 70)
    page.until(lambda: "50 %" in how(page))
    page.press("p")
    page.press("i")  # what is beside the image stays black
    page.until(lambda: page.value(MIDDLE)[0] == 255)
    page.drag(".viewport", 400, 0)
    page.until(lambda: page.value(MIDDLE)[0] == 0)


def test_a_length_is_measured_in_millimetres(page: Page) -> None:
    page.click("[data-tool=measure]")
    width = page.value("document.querySelector('.viewport').clientHeight")
    page.drag(".viewport", 100, 0)
    page.until(lambda: " mm" in how(page))
    length = float(how(page).split("\n")[-1].removesuffix(" mm"))
    assert length == pytest.approx(100 * 32.0 / width, abs=0.15)  # 64 pixels of 0.5 mm
    page.press("ArrowDown")
    shows(page, 2)
    page.until(lambda: " mm" not in how(page))
    page.press("ArrowUp")
    page.until(lambda: " mm" in how(page))
    page.press("Delete")
    page.until(lambda: " mm" not in how(page))


def test_images_play(page: Page) -> None:
    page.press(" ")
    page.wait("Number(document.querySelector('.viewport').dataset.image) > 3")
    page.press(" ")
    assert page.value("document.getElementById('play').ariaPressed") == "false"


def test_a_clip_in_colour_plays_at_its_rate(person: Person) -> None:
    page = person.open(f"/view/{HEART}")
    shows(page, 1)
    assert page.text(".where") == "1 / 4"
    page.press("ArrowDown")
    shows(page, 2)
    red, green, blue, _ = page.value(MIDDLE)
    assert (red, green, blue) == (60, 0, 200)
    assert "Window" not in how(page)
    page.press(" ")
    page.until(lambda: page.value("document.getElementById('rate').value") == "25")
    page.press(" ")


def test_the_tags_of_an_object(page: Page) -> None:
    page.press("t")
    page.until(lambda: "Patient's Name" in page.text("#tags"))
    page.type("window")
    page.until(lambda: page.text("#tags [role=status]") == "2 attributes")
    assert page.texts("#tags tbody tr:not([hidden])") == [
        "0028,1050\tWindow Center\tDS\t40",
        "0028,1051\tWindow Width\tDS\t400",
    ]
    page.press("Escape")
    assert not page.sees("#tags")


def test_two_viewports_side_by_side(page: Page) -> None:
    page.press("d")
    shows(page, 1, viewport=2)
    page.click(".viewport:nth-child(2)")
    page.press("ArrowDown")
    shows(page, 2, viewport=2)
    shows(page, 1, viewport=1)
    page.press("d")
    assert not page.sees(".viewport:nth-child(2)")


def test_the_keys_are_explained_and_escape_leads_back(page: Page) -> None:
    page.press("?")
    assert page.sees("#help")
    assert "previous, next image" in page.text("#help")
    page.press("Escape")
    page.wait("!document.getElementById('help').open")
    with page.loading():
        page.press("Escape")
    assert page.value("location.pathname") == f"/study/{HEAD}"


def test_an_object_without_image_says_so(person: Person) -> None:
    page = person.open(f"/view/{REPORT}")
    page.until(lambda: "no image" in page.text(".said"))
    page.press("t")
    page.until(lambda: "SOP Class UID" in page.text("#tags"))


@pytest.mark.parametrize("width", [1280, 820])
def test_the_viewer_has_no_barriers_and_fits(person: Person, width: int) -> None:
    page = person.open(f"/view/{KNEE}", width=width)
    shows(page, 1)
    page.press("t")
    page.until(lambda: "Patient's Name" in page.text("#tags"))
    assert barriers(page) == []
    assert page.value("document.documentElement.scrollWidth") <= width
