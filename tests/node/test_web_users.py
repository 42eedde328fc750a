"""Who may use the archive over HTTP: this machine, sessions, tokens; and what the log says."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from http.cookies import SimpleCookie
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest
from web_site import ELSEWHERE, HERE, PASSWORD, WebSite, web_site

from dicomwire.node.users import UserRight
from dicomwire.node.web.sessions import COOKIE, LONGEST, Sessions, Throttle

STUDIES = "/dicom-web/studies"
IMAGE = {
    "sec-fetch-site": "cross-site",
    "sec-fetch-mode": "no-cors",
    "sec-fetch-dest": "image",
}
LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.fixture(scope="module")
def open_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebSite]:
    """An archive without users."""
    with web_site(tmp_path_factory.mktemp("open")) as site:
        yield site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebSite]:
    """An archive with users."""
    with web_site(tmp_path_factory.mktemp("node")) as site:
        site.store("1.2.3.4.5")
        site.add("jane", UserRight.SEE)
        yield site


def log_in(
    site: WebSite, name: str = "jane", password: str = PASSWORD, **more: str
) -> httpx.Response:
    form = {"name": name, "password": password, "next": more.pop("next", "")}
    return site.ask("POST", "/login", data=form, **more)


def cookie_of(response: httpx.Response) -> dict[str, str]:
    """Return the header field by which a browser sends back the cookie of a response."""
    cookie = SimpleCookie(response.headers["set-cookie"])[COOKIE]
    return {"cookie": f"{COOKIE}={cookie.value}"}


# --- Without users ----------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "localhost:8042", "127.0.0.1:1", "[::1]:8042"])
def test_a_program_on_this_machine_may_do_everything(open_site: WebSite, host: str) -> None:
    assert open_site.ask("GET", STUDIES, host=host).status_code in (200, 204)
    assert open_site.ask("GET", STUDIES, host=host, address="::1").status_code in (200, 204)


@pytest.mark.parametrize(
    "told",
    [
        {"address": ELSEWHERE},
        {"host": "pacs.example"},
        {"host": "evil.example:8042"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "localhost@evil.example"},
        {"headers": {"x-forwarded-for": HERE}},
        {"headers": {"forwarded": "for=127.0.0.1"}},
        {"headers": {"via": "1.1 proxy"}},
        {"headers": {"x-real-ip": ""}},
        {"headers": {"authorization": "Bearer x"}},
        {"headers": {"authorization": "Basic eDp5"}},
    ],
    ids=str,
)
def test_others_may_do_nothing(open_site: WebSite, told: dict[str, str]) -> None:
    response = open_site.ask("GET", STUDIES, **told)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "headers",
    [
        IMAGE,
        IMAGE | {"sec-fetch-site": "same-site"},
        LINK | {"sec-fetch-dest": "iframe"},
        {"origin": "http://evil.example"},
        {"origin": "http://localhost:3000"},
        {"origin": "null"},
    ],
    ids=str,
)
def test_a_page_of_another_origin_may_do_nothing(
    open_site: WebSite, headers: dict[str, str]
) -> None:
    for method, path in [("GET", STUDIES), ("POST", STUDIES), ("POST", "/login")]:
        assert open_site.ask(method, path, headers=headers).status_code == 403


def test_a_page_of_another_origin_may_link_to_ours(open_site: WebSite) -> None:
    assert open_site.ask("GET", "/", headers=LINK).status_code == 200
    assert open_site.ask("POST", STUDIES, headers=LINK).status_code == 403


@pytest.mark.parametrize(
    "headers", [{"sec-fetch-site": "same-origin"}, {"origin": "http://localhost:8042"}], ids=str
)
def test_our_own_page_may_change_something(open_site: WebSite, headers: dict[str, str]) -> None:
    assert open_site.ask("POST", STUDIES, headers=headers).status_code == 415


# --- With users -------------------------------------------------------------------------------


def test_with_users_nobody_on_this_machine_may_do_anything(site: WebSite) -> None:
    assert site.ask("GET", STUDIES).status_code == 401


def test_a_token_is_for_programs_everywhere(site: WebSite) -> None:
    assert site.ask("GET", STUDIES, "jane", ELSEWHERE, "pacs.example").status_code == 200


def test_a_browser_is_sent_to_the_page_to_log_in(site: WebSite) -> None:
    response = site.ask("GET", "/study/1.2?a=b&c", headers={"accept": "text/html,*/*"})
    assert response.status_code == 303
    assert response.headers["location"] == "/login?next=%2Fstudy%2F1.2%3Fa%3Db%26c"
    page = site.ask("GET", response.headers["location"])
    assert page.status_code == 200
    assert "/study/1.2?a=b&amp;c" in page.text


def test_a_user_logs_in_uses_the_archive_and_logs_out(site: WebSite) -> None:
    response = log_in(site, next="/study/1.2")
    assert response.status_code == 303
    assert response.headers["location"] == "/study/1.2"
    said = response.headers["set-cookie"].lower()
    assert "httponly" in said
    assert "samesite=strict" in said
    assert "path=/" in said
    assert "; secure" not in said
    cookie = cookie_of(response)
    assert site.ask("GET", STUDIES, headers=cookie).status_code == 200
    for headers in (IMAGE, {"origin": "http://evil.example"}):
        assert site.ask("GET", STUDIES, headers=cookie | headers).status_code == 403
    assert site.ask("POST", "/logout", headers=cookie | IMAGE).status_code == 403
    assert site.ask("GET", STUDIES, headers=cookie).status_code == 200
    assert site.ask("POST", "/logout", headers=cookie).status_code == 303
    assert site.ask("GET", STUDIES, headers=cookie).status_code == 401


@pytest.mark.parametrize("other", [{"password": "wrong"}, {"name": "joe"}, {"name": "x" * 5000}])
def test_a_wrong_password_is_refused(
    site: WebSite, other: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    response = log_in(site, **other)
    assert response.status_code == 401
    assert "set-cookie" not in response.headers
    assert "is wrong" in response.text
    assert "wrong horse" not in caplog.text


@pytest.mark.parametrize(
    "next", ["//evil.example", "https://evil.example", "/\\evil.example", "/\r\nX: y", "evil"]
)
def test_nobody_is_sent_to_another_site(site: WebSite, next: str) -> None:
    response = log_in(site, next=next)
    assert response.status_code == 303
    assert response.headers["location"] == "/"


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"x" * 10_000, "application/x-www-form-urlencoded", 413),
        (b"&".join([b"a=b"] * 100), "application/x-www-form-urlencoded", 400),
        (b"\xff", "application/x-www-form-urlencoded", 400),
        (b"name=%ff%00&password=%ed%a0%80", "application/x-www-form-urlencoded", 401),
        (b"", "application/x-www-form-urlencoded; charset=x", 401),
    ],
)
def test_what_is_no_form_is_refused(site: WebSite, content: bytes, kind: str, status: int) -> None:
    response = site.ask("POST", "/login", content=content, headers={"content-type": kind})
    assert response.status_code == status


def test_many_wrong_passwords_are_slowed_down(tmp_path: Path) -> None:
    with web_site(tmp_path) as site:
        site.add("jane", UserRight.SEE)
        found = [log_in(site, password="wrong").status_code for _ in range(8)]
        assert found == [401] * 6 + [429] * 2
        assert log_in(site).status_code == 429
        assert int(log_in(site).headers["retry-after"]) > 0
        assert log_in(site, address=ELSEWHERE).status_code == 303


def test_a_changed_password_and_a_removed_user_end_the_sessions(tmp_path: Path) -> None:
    with web_site(tmp_path) as site:
        site.add("jane", UserRight.SEE)
        site.add("joe", UserRight.SEE)
        jane, joe = (cookie_of(log_in(site, name)) for name in ("jane", "joe"))
        site.users.set_password("jane", "another one")
        assert site.ask("GET", STUDIES, headers=jane).status_code == 401
        assert site.ask("GET", STUDIES, headers=joe).status_code in (200, 204)
        site.users.remove("joe")
        assert site.ask("GET", STUDIES, headers=joe).status_code == 401


def test_users_that_cannot_be_read_let_nobody_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with web_site(tmp_path) as site:
        site.users.path.write_text("{")
        assert site.ask("GET", STUDIES).status_code == 503
        assert log_in(site).status_code == 503
        assert site.ask("GET", "/health").status_code == 200


def test_a_trusted_proxy_tells_address_and_scheme(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dicomwire")
    told = {"x-forwarded-for": "198.51.100.1, 203.0.113.9, 10.0.0.2", "x-forwarded-proto": "https"}
    with web_site(tmp_path, http_proxies=(ip_network("10.0.0.0/8"),)) as site:
        site.add("jane", UserRight.SEE)
        response = log_in(site, address="10.0.0.1", headers=told)
        assert "; secure" in response.headers["set-cookie"].lower()
        assert "jane has logged in from 203.0.113.9" in caplog.text
        log_in(site, address="10.0.0.1", headers={"x-forwarded-for": "203.0.113.9, \x1b[31m"})
        assert "jane has logged in from 10.0.0.1" in caplog.text
        response = log_in(site, address=ELSEWHERE, headers=told)
        assert "; secure" not in response.headers["set-cookie"].lower()
        assert f"jane has logged in from {ELSEWHERE}" in caplog.text


# --- Responses and the log --------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/login", "/health", STUDIES, "/nothing"])
def test_each_response_is_protected(site: WebSite, path: str) -> None:
    headers = site.ask("GET", path, "jane").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "no-store" in headers["cache-control"]


def test_each_request_is_a_line_without_its_query(
    site: WebSite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dicomwire")
    path = f"{STUDIES}/1.2.3/series"
    assert site.ask("GET", f"{path}?PatientName=Doe", "jane", ELSEWHERE).status_code == 200
    (record,) = [each for each in caplog.records if hasattr(each, "dicom")]
    said = record.getMessage()
    assert said.startswith(
        f"HTTP GET /dicom-web/studies/{{study}}/series from jane@{ELSEWHERE}: 200, "
    )
    assert said.endswith("; study 1.2.3")
    assert "Doe" not in said
    facts = record.dicom
    assert facts["user"] == "jane"
    assert facts["studies"] == ["1.2.3"]
    assert facts["status"] == 200


def test_a_line_has_nothing_of_an_unknown_path(
    site: WebSite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dicomwire")
    site.ask("GET", "/Doe%0AJane", "jane")
    site.ask("GET", f"{STUDIES}/Doe%1bJane/series", "jane")
    assert "HTTP request of an unknown path from 127.0.0.1: 404" in caplog.text
    assert "\x1b" not in caplog.text
    assert "Doe\n" not in caplog.text


# --- Sessions and delays ----------------------------------------------------------------------


def test_a_session_ends_after_its_time(site: WebSite) -> None:
    now = 0.0
    sessions = Sessions(site.users, lambda: now)
    jane = site.users.user("jane")
    assert jane is not None
    secret = sessions.begin(jane)
    now = LONGEST - 1
    assert sessions.user(secret) == jane
    now = LONGEST
    assert sessions.user(secret) is None


def test_sessions_are_bounded(site: WebSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomwire.node.web.sessions._MOST_SESSIONS", 2)
    sessions = Sessions(site.users)
    jane = site.users.user("jane")
    assert jane is not None
    secrets = [sessions.begin(jane) for _ in range(3)]
    assert [sessions.user(each) is not None for each in secrets] == [False, True, True]


def test_delays_grow_to_a_minute_by_address_and_to_seconds_by_name() -> None:
    now = 0.0
    throttle = Throttle(lambda: now)
    longest = 0.0
    for _ in range(20):
        wait = throttle.delay("jane", HERE)
        if wait:
            longest = wait
            now += wait
            assert throttle.delay("jane", HERE) == 0
    assert longest == 60
    now += 60
    assert [throttle.delay(str(number), HERE) for number in range(2)] == [0, 60]
    assert throttle.delay("jane", ELSEWHERE) == 0
    assert throttle.delay("jane", "192.0.2.8") == 5
    now += 3601
    assert [throttle.delay("jane", HERE) for _ in range(5)] == [0] * 5


def test_success_forgets_the_failures() -> None:
    throttle = Throttle(lambda: 0.0)
    for _ in range(6):
        throttle.delay("jane", HERE)
    throttle.succeeded("jane", HERE)
    assert throttle.delay("jane", HERE) == 0


def test_an_ipv6_network_is_one_address() -> None:
    throttle = Throttle(lambda: 0.0)
    for number in range(6):
        throttle.delay(str(number), f"2001:db8::{number}")
    assert throttle.delay("x", "2001:db8::ffff") > 0
    assert throttle.delay("y", "2001:db9::1") == 0


def test_counted_failures_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomwire.node.web.sessions._MOST_COUNTED", 10)
    throttle = Throttle(lambda: 0.0)
    for number in range(100):
        throttle.delay("x" * 10_000 + str(number), f"10.0.0.{number}")
    assert len(throttle._failures) == 10
