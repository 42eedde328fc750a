"""The pages as a person uses them, in a browser: each action, by mouse and keys.

After each test, no page has written an error to its console or asked another host.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Chromium, Page
from looking import Person, barriers, people
from running_node import LOCALHOST, make_object, running, store, write
from shown_archive import HEAD, KNEE, REPORT, fail, grey, shown
from web_client import Serving, serving

from dicomwire.node.configuration import Destination
from dicomwire.node.users import UserRight, Users

ROWS = "table.studies tbody tr"
LARGEST = 200_000
"""Bytes of a page with all that it loads, pictures of images aside."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """An archive that no test changes."""
    with shown(tmp_path_factory.mktemp("shown") / "archive") as served:
        yield served


@pytest.fixture
def person(browser: Chromium, archive: Serving) -> Iterator[Person]:
    """Somebody who looks at the archive that no test changes."""
    yield from people(browser, archive)


@pytest.fixture
def owner(browser: Chromium, tmp_path: Path) -> Iterator[Person]:
    """Somebody who may change the archive, which is of this test alone."""
    with (
        running(tmp_path / "other") as other,
        shown(
            tmp_path / "archive",
            destinations={
                "OTHER": Destination(*other.address),
                "AWAY": Destination(LOCALHOST, 1),
            },
        ) as served,
    ):
        yield from people(browser, served)


def names(page: Page) -> list[str]:
    """Return the patients of the list."""
    return page.texts(f"{ROWS} .patient a")


# --- The list ---


def test_a_list_is_searched_as_one_types_and_back_shows_it_again(person: Person) -> None:
    page = person.open("/")
    assert names(page) == ["Doe, Jane", "Yamada, Tarou", "Müller, Jörg", "No name"]
    page.type("mull")
    page.until(lambda: names(page) == ["Müller, Jörg"])
    page.wait("location.search === '?q=mull'")
    assert page.text(".summary").startswith("1 study found")
    with page.loading():
        page.click(f"{ROWS} td.description")
    assert page.text("h1") == "Müller, Jörg"
    page.back()
    assert page.value("document.querySelector('[name=q]').value") == "mull"
    assert names(page) == ["Müller, Jörg"]


def test_a_list_is_restricted_by_dates_and_modality(person: Person) -> None:
    page = person.open("/?from=2025-01-01")
    assert names(page) == ["Doe, Jane", "Yamada, Tarou"]
    page.value(
        "const s = document.querySelector('[name=modality]'); s.value = 'US';"
        " s.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    page.until(lambda: names(page) == ["Yamada, Tarou"])
    assert page.value("location.search") == "?from=2025-01-01&modality=US"


def test_a_list_is_sorted_by_a_click(person: Person) -> None:
    page = person.open("/")
    assert page.value("document.querySelector('th.date').ariaSort") == "descending"
    with page.loading():
        page.click("th.date a")
    assert names(page)[0] == "No name"
    with page.loading():
        page.click("th.patient a")
    assert names(page) == ["No name", "Doe, Jane", "Müller, Jörg", "Yamada, Tarou"]
    assert page.value("document.querySelector('th.patient').ariaSort") == "ascending"


def test_a_search_that_finds_nothing_says_what_to_do(person: Person) -> None:
    page = person.open("/")
    page.type("zzz")
    page.until(lambda: "No study is like this" in page.text("#results"))


def test_the_key_of_the_search_goes_there(person: Person) -> None:
    page = person.open("/")
    page.value("document.activeElement.blur()")
    page.press("/")
    assert page.value("document.activeElement.name") == "q"


def test_studies_are_chosen(person: Person) -> None:
    page = person.open("/")
    assert not page.sees("#chosen")
    page.click(f"{ROWS}:nth-child(2) input")
    assert page.text("#chosen-number") == "1 study chosen"
    page.click("#choose-all")
    assert page.text("#chosen-number") == "4 studies chosen"
    page.click("#chosen [data-action=none]")
    assert not page.sees("#chosen")


def test_pages_of_a_list(browser: Chromium, tmp_path: Path) -> None:
    with serving(tmp_path / "archive") as served:
        many = [make_object(1, study=f"1.2.{number}") for number in range(60)]
        store(served.node, *many)
        for person in people(browser, served):
            page = person.open("/")
            assert page.text(".summary p") == "60 studies, 1\u201350 shown"
            page.click("#choose-all")
            page.click("#choose-found")
            assert page.text("#chosen-number") == "60 studies chosen"
            with page.loading():
                page.click("[rel=next]")
            assert page.text(".summary p") == "60 studies, 51\u201360 shown"
            assert page.value("location.search") == "?start=50"


# --- A study ---


def test_a_study_has_pictures_of_its_series(person: Person) -> None:
    page = person.open(f"/study/{HEAD}")
    assert page.text("h1") == "Doe, Jane"
    page.wait("document.querySelector('.series img').naturalWidth > 0")
    assert "10 images" in page.text(".series")


def test_a_study_is_deleted_by_two_clicks(owner: Person) -> None:
    page = owner.open("/?sort=date")
    with page.loading():
        page.click(f"{ROWS}:nth-child(2) .patient a")
    page.click("[data-action=delete]")
    assert page.text("#delete h2") == "Delete 1 study?"
    with page.loading():
        page.click("#delete button.bad")
    assert page.value("location.search") == "?sort=date"
    assert "Müller, Jörg" not in names(page)


def test_many_studies_are_deleted_by_a_word(owner: Person) -> None:
    page = owner.open("/")
    page.click("#choose-all")
    page.click("#chosen [data-action=delete]")
    page.click("#delete button.bad")
    assert page.value("document.querySelector('#delete').open")
    page.click("#delete input")
    page.type("delete")
    page.click("#delete button.bad")
    page.until(lambda: "The archive is empty" in page.text("#results"))
    assert page.text("#told") == "4 studies deleted, with 14 objects."


def test_a_study_is_sent(owner: Person) -> None:
    page = owner.open(f"/study/{HEAD}")
    page.click("[data-action=send]")
    assert page.text("#send h2") == "Send 1 study"
    page.value("document.querySelector('#send select').value = 'OTHER'")
    page.click("#send button.main")
    page.until(lambda: page.text("#told") == "10 objects will be sent to OTHER.")


def test_a_study_is_downloaded(person: Person) -> None:
    page = person.open("/?q=knee")
    link = "document.querySelector('.summary a[download]').href"
    fetched = f"fetch({link}).then(answer => answer.blob()).then(blob => blob.size)"
    assert page.value(fetched) > 2 * 64 * 64 * 2


# --- Who may ---


def test_a_user_logs_in_and_sees_what_the_rights_allow(owner: Person) -> None:
    users = Users(owner.served.node.configuration.folder / "users.json")
    users.add("jane", (UserRight.SEE,), ("PatientID=P1",), "a long password")
    owner.expected = "401 (Unauthorized)"
    page = owner.open("/?q=doe")
    assert page.text("h1") == "Log in"
    assert barriers(page) == []
    page.type("jane")
    page.press("Tab")
    page.type("wrong")
    with page.loading():
        page.press("Enter")
    assert page.text(".error") == "The name or the password is wrong."
    page.click("[name=name]")
    page.type("jane")
    page.click("[name=password]")
    page.type("a long password")
    with page.loading():
        page.press("Enter")
    assert page.value("location.search") == "?q=doe"
    assert names(page) == ["Doe, Jane"]
    assert page.texts(".top nav a") == ["Studies"]
    assert page.text(".user span") == "jane"
    with page.loading():
        page.click(".user button")
    assert page.text("h1") == "Log in"


# --- Uploading ---


def test_folders_are_dropped(owner: Person, tmp_path: Path) -> None:
    folder = tmp_path / "disc"
    (folder / "deep").mkdir(parents=True)
    for number in range(1, 4):
        write(folder / "deep" / f"{number}.dcm", grey(number, study="1.2.99"))
    (folder / "readme.txt").write_text("no DICOM")
    write(folder / "other.dcm", grey(1, PatientName="Other^Content"))
    owner.expected = "409 (Conflict)"
    page = owner.open("/upload")
    page.drop_files("#drop", [folder])
    page.until(lambda: page.text("#uploading-title") == "3 objects stored, 1 file failed")
    assert "another object" in page.text("#outcomes .wrong")
    assert page.text("#left-out").startswith("1 file left out")
    page.until(lambda: page.text("#studies") == "Doe, Jane")
    assert len(owner.served.client.get("/api/studies?q=1.2.99").json()["studies"]) == 1


def test_files_are_chosen(owner: Person, tmp_path: Path) -> None:
    page = owner.open("/upload")
    page.choose_files("#files", [write(tmp_path / "a.dcm", grey(1, study="1.2.98"))])
    page.until(lambda: page.text("#uploading-title") == "1 object stored")


# --- The system ---


def test_tasks_are_repeated_or_dropped_and_destinations_tested(owner: Person) -> None:
    page = owner.open("/system")
    ids = [fail(owner.served.node, "of a kind", is_dead=True) for _ in range(3)]
    page.wait(f"document.getElementById('retry-{ids[0]}')")  # it renews itself
    page.click(f"#retry-{ids[0]}")
    page.until(lambda: "1 task will be repeated" in page.text("#told"))
    # The page is renewed then, which takes back that somebody was asked whether to drop one.
    page.wait(
        f"!document.getElementById('retry-{ids[0]}').closest('tr').innerText.includes('Dead')"
    )
    page.click(f"#drop-{ids[1]}")
    page.wait(f"document.getElementById('drop-{ids[1]}').innerText.includes('sure?')")
    page.click(f"#drop-{ids[1]}")
    page.wait(f"!document.getElementById('drop-{ids[1]}')")
    page.click("#echo-OTHER")
    page.until(lambda: "answers in" in page.text("#destinations-title + * , section"))
    page.click("#echo-AWAY")
    page.until(lambda: "no answer" in page.text("section"))


# --- All pages ---


@pytest.mark.parametrize("path", ["/", f"/study/{HEAD}", f"/study/{REPORT}", "/upload", "/system"])
def test_a_page_is_small_and_fits_and_has_no_barriers(person: Person, path: str) -> None:
    page = person.open(path, is_fresh=True)
    assert sum(page.sizes) < LARGEST
    assert barriers(page) == []
    page.colour(dark=True)
    assert barriers(page) == []
    for width in (820, 400):
        page.resize(width, 800)
        assert page.value("document.documentElement.scrollWidth") <= width


def test_pages_need_no_script_to_be_read(person: Person) -> None:
    page = person.open("/")
    page.send("Emulation.setScriptExecutionDisabled", value=True)
    page.open(f"{person.root}/?q=knee")
    assert names(page) == ["Müller, Jörg"]
    assert KNEE in page.value("document.querySelector('td.patient a').href")
