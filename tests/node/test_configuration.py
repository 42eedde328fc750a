"""What a node can be told, by a file and by options, and what is said of mistakes."""

from __future__ import annotations

import math
import tomllib
from dataclasses import asdict
from ipaddress import ip_network
from pathlib import Path

import pytest

from dicomwire.node.configuration import (
    DESTINATION_KEYS,
    KEYS,
    ROUTE_KEYS,
    TLS,
    Access,
    Configuration,
    ConfigurationError,
    Destination,
    Duplicates,
    Right,
    destination,
    environment,
    load,
    merged,
    template,
    toml,
)
from dicomwire.tls import Profile


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "node.toml"


def problem(file: Path, text: str) -> str:
    """Return what is wrong with a configuration, less the name of its file."""
    file.write_text(text)
    with pytest.raises(ConfigurationError) as error:
        load(file)
    named, _, rest = str(error.value).partition(": ")
    assert named == str(file)
    return rest


def test_the_template_has_every_key_with_its_default(file: Path) -> None:
    file.write_text(template())
    defaults = Configuration()
    assert merged(Configuration(), tomllib.loads(template())) == defaults
    assert load(file).folder == file.parent / defaults.folder
    values = tomllib.loads(template())
    for key in KEYS:
        assert key.name in (values[key.table] if key.table else values)
    assert values["destinations"]["STORESCP"] == asdict(Destination("127.0.0.1", 11113))


def test_the_template_explains_every_key() -> None:
    lines = template().splitlines()
    for key in KEYS:
        at = lines.index(f"{key.name} = {toml(key.default)}")
        assert lines[at - 2 : at] == [f"# {key.meaning}", f"# Allowed: {key.allowed}."]
        assert len(lines[at - 2]) <= 100


def test_an_empty_file_changes_nothing_but_where_the_folder_counts_from(file: Path) -> None:
    file.write_text("")
    assert load(file) == Configuration(folder=file.parent / "archive")


def test_all_that_a_file_may_say(file: Path) -> None:
    file.write_text(
        """
        ae_title = "ARCHIVE"
        address = ""
        port = 0
        folder = "/var/lib/archive"
        duplicates = "keep-both"
        max_associations = 5
        max_pdu = 0
        acse_timeout = 5
        network_timeout = inf
        [access]
        called_title = true
        titles = ["CT1", " MR1 "]
        networks = ["10.1.0.0/16", "fd00::/8", "10.2.3.4"]
        strangers = []
        [destinations.WS1]
        host = "ws1.example.org"
        port = 104
        [destinations."WS 2"]
        host = "::1"
        port = 2762
        tls = true
        """
    )
    configuration = load(file)
    assert configuration == Configuration(
        ae_title="ARCHIVE",
        address="",
        port=0,
        folder=Path("/var/lib/archive"),
        duplicates=Duplicates.KEEP_BOTH,
        max_associations=5,
        max_pdu=0,
        acse_timeout=5.0,
        network_timeout=math.inf,
        access=Access(
            called_title=True,
            titles=("CT1", "MR1"),
            networks=tuple(map(ip_network, ("10.1.0.0/16", "fd00::/8", "10.2.3.4/32"))),
            strangers=(),
        ),
        destinations={
            "WS1": Destination("ws1.example.org", 104),
            "WS 2": Destination("::1", 2762, tls=True),
        },
    )
    assert merged(Configuration(), tomllib.loads(file.read_text())) == configuration


def test_of_the_home_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jane")
    file.write_text('folder = "~/archive"')
    assert load(file).folder == Path("/home/jane/archive")


def test_files_of_tls_are_beside_the_configuration(file: Path) -> None:
    file.write_text('[tls]\ncert = "node.pem"\nkey = "/etc/node.key"\nprofile = "retired-aes"')
    assert load(file).tls == TLS(
        cert=str(file.parent / "node.pem"), key="/etc/node.key", profile=Profile.RETIRED_AES
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = 70000", "port must be a port number, 0 to 65535, not 70000"),
        ('port = "11112"', 'port must be a port number, 0 to 65535, not "11112"'),
        ("port = true", "port must be a port number, 0 to 65535, not true"),
        ("port = 2025-01-01", "port must be a port number, 0 to 65535, not 2025-01-01"),
        ('ae_title = ""', 'ae_title must be an AE title, 1 to 16 ASCII characters, not ""'),
        ("ae_title = 5", "ae_title must be an AE title, 1 to 16 ASCII characters, not 5"),
        (
            'ae_title = "SEVENTEEN LETTERS"',
            'ae_title must be an AE title, 1 to 16 ASCII characters, not "SEVENTEEN LETTERS"',
        ),
        ('folder = ""', 'folder must be a path, not ""'),
        ('folder = "a\\u0000b"', 'folder must be a path, not "a\\u0000b"'),
        (
            'duplicates = "keep"',
            'duplicates must be "keep-first" or "replace" or "keep-both" or "ignore", not "keep"',
        ),
        ("acse_timeout = 0", "acse_timeout must be a number of seconds above 0, or inf, not 0"),
        ("stop_timeout = inf", "stop_timeout must be a number of seconds, 0 to 3600, not inf"),
        ("acse_timeout = nan", "acse_timeout must be a number of seconds above 0, or inf, not nan"),
        (
            "acse_timeout = true",
            "acse_timeout must be a number of seconds above 0, or inf, not true",
        ),
        (
            "prot = 104",
            "there is no key 'prot' in a configuration; allowed are "
            + ", ".join(key.name for key in KEYS if not key.table)
            + ", [access], [tls], [retention], [destinations], [routes], [notices]",
        ),
        ("access = 5", "access must be a table: [access]"),
        ("[access]\ntitles = 'CT1'", 'access.titles must be a list of AE titles, not "CT1"'),
        ("[access]\ntitles = ['']", 'access.titles must be a list of AE titles, not [""]'),
        (
            "[access]\nnetworks = ['10.0.0.1/8']",
            'access.networks must be a list of networks, such as "10.1.0.0/16", not ["10.0.0.1/8"]',
        ),
        (
            "[access]\nstrangers = ['all']",
            'access.strangers must be a list of "echo", "store", "query", "retrieve", not ["all"]',
        ),
        ("[access]\ncalled_title = 1", "access.called_title must be true or false, not 1"),
        (
            "[access]\ntitle = 'CT1'",
            "there is no key 'title' in [access]; allowed are "
            "called_title, titles, networks, strangers",
        ),
        ("destinations = 5", "destinations must be a table: [destinations]"),
        ("destinations.WS1 = 5", "destinations.WS1 must be a table: [destinations.WS1]"),
        ("[destinations.WS1]\nport = 104", "destinations.WS1.host is missing"),
        (
            "[destinations.WS1]\nport = 104\nhots = 'ws1'",
            "there is no key 'hots' in [destinations.WS1]; allowed are "
            + ", ".join(DESTINATION_KEYS),
        ),
        ("[destinations.WS1]\nhost = 'ws1'", "destinations.WS1.port is missing"),
        (
            "[destinations.WS1]\nhost = 'ws1'\nport = 0",
            "destinations.WS1.port must be a port number, 1 to 65535, not 0",
        ),
        (
            "[destinations.WS1]\nhost = 'ws1'\nport = 1\nname = 'ws'",
            "there is no key 'name' in [destinations.WS1]; allowed are "
            + ", ".join(DESTINATION_KEYS),
        ),
        (
            "[destinations.'']\nhost = 'ws1'\nport = 1",
            'the name of [destinations.] must be an AE title, 1 to 16 ASCII characters, not ""',
        ),
        ("routes = 5", "routes must be tables: [[routes]], not 5"),
        ("[[routes]]", "the route 1: to is missing"),
        (
            "[[routes]]\nto = []",
            "the route 1: to must be a list of names of [destinations], not []",
        ),
        (
            "[[routes]]\nname = 'CT'\nto = ['A']\nwhen = 'later'",
            'the route \'CT\': when must be "object" or "series" or "study", not "later"',
        ),
        (
            "[[routes]]\nname = 'CT'\nto = ['A']\nquite = 5",
            "the route 'CT' has no key 'quite'; allowed are " + ", ".join(ROUTE_KEYS),
        ),
        (
            "[[routes]]\nname = 'CT'\nto = ['A']\nconditions = {Rows = 'many'}",
            "the route 'CT': conditions: Rows: not a number",
        ),
    ],
)
def test_mistakes_are_named(file: Path, text: str, said: str) -> None:
    assert problem(file, text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "acse_timeout = " + "1" * 400,
            "acse_timeout must be a number of seconds above 0, or inf, not 1",
        ),
        ("port = 0x" + "f" * 5000, "port must be a port number, 0 to 65535, not this int"),
        ("port = " + "1" * 5000, "Exceeds the limit"),
        ('folder = "~nobody-is-called-so/x"', 'folder must be a path, not "~nobody'),
        (
            '[tls]\ncert = "~nobody-is-called-so"',
            'tls.cert must be a path, or "" for none, not "~nobody',
        ),
        (
            '[tls]\nca = "~nobody-is-called-so"',
            'tls.ca must be a path, or "" for none, not "~nobody',
        ),
        ("x = " + "[" * 3000 + "]" * 3000, "lists or tables are nested too deep"),
        ("port = " + "[" * 300 + "]" * 300, "port must be a port number, 0 to 65535, not [[["),
        ("port = [{a = 1979-05-27}]", "port must be a port number, 0 to 65535, not [{"),
        ("#" * 2_000_000, "the file has more than 1048576 bytes"),
    ],
    ids=range(10),
)
def test_whatever_a_file_has_the_error_is_of_the_configuration(
    file: Path, text: str, said: str
) -> None:
    assert problem(file, text).startswith(said)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no file without an end")
def test_a_file_without_an_end_is_not_read_to_its_end() -> None:
    with pytest.raises(ConfigurationError, match=r"/dev/zero: the file has more than"):
        load(Path("/dev/zero"))


def test_what_is_no_toml(file: Path) -> None:
    assert "line 1" in problem(file, "port: 104")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"node\.toml: .*utf-8"):
        load(file)


def test_a_file_that_is_not_there(file: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"node\.toml: No such file"):
        load(file)


def test_destinations_are_taken_together() -> None:
    changed = merged(Configuration(), {"destinations": {"WS1": {"host": "ws1", "port": 104}}})
    assert changed.destinations == {"WS1": Destination("ws1", 104)}
    assert merged(changed, {"port": 104}).destinations == changed.destinations


def test_a_table_keeps_what_is_not_said() -> None:
    strict = merged(Configuration(), {"access": {"titles": ["CT1"]}})
    assert merged(strict, {"access": {"strangers": ["echo"]}}).access == Access(
        titles=("CT1",), strangers=(Right.ECHO,)
    )


def test_every_key_has_an_option_of_its_own() -> None:
    options = [key.option for key in KEYS]
    assert len(set(options)) == len(options)
    assert {"--ae-title", "--access-titles", "--max-associations"} <= set(options)


def test_every_key_has_a_variable_of_its_own() -> None:
    variables = [key.variable for key in KEYS]
    assert len(set(variables)) == len(variables)
    assert {"DICOMWIRE_AE_TITLE", "DICOMWIRE_ACCESS__TITLES"} <= set(variables)


def test_variables_are_structured_like_the_file() -> None:
    values = environment(
        {
            "DICOMWIRE_AE_TITLE": "ARCHIVE",
            "DICOMWIRE_PORT": "104",
            "DICOMWIRE_NETWORK_TIMEOUT": "inf",
            "DICOMWIRE_STRICT_QUERIES": "true",
            "DICOMWIRE_DUPLICATES": "replace",
            "DICOMWIRE_FOLDER": "objects",
            "DICOMWIRE_ACCESS__TITLES": "CT1,MR 1",
            "DICOMWIRE_ACCESS__NETWORKS": "",
            "DICOMWIRE_DESTINATIONS": "WS1=ws1:104,WS2=tls:ws2:2762",
            "HOME": "/home/jane",
        }
    )
    assert merged(Configuration(), values) == Configuration(
        ae_title="ARCHIVE",
        port=104,
        network_timeout=math.inf,
        strict_queries=True,
        duplicates=Duplicates.REPLACE,
        folder=Path("objects"),
        access=Access(titles=("CT1", "MR 1"), networks=()),
        destinations={"WS1": Destination("ws1", 104), "WS2": Destination("ws2", 2762, tls=True)},
    )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("PORT", "x", "DICOMWIRE_PORT: 'x' is not a port number, 0 to 65535"),
        ("ACCESS__STRANGERS", "echo,all", "DICOMWIRE_ACCESS__STRANGERS: 'echo,all' is not a list"),
        ("DESTINATIONS", "WS1", "DICOMWIRE_DESTINATIONS: 'WS1' is not NAME=HOST:PORT"),
    ],
)
def test_mistakes_in_variables_are_named(name: str, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        environment({f"DICOMWIRE_{name}": text})
    assert str(error.value).startswith(said)


def test_an_unknown_variable_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert environment({"DICOMWIRE_PROT": "104"}) == {}
    assert "DICOMWIRE_PROT is no key" in caplog.text


@pytest.mark.parametrize(
    ("text", "title", "values"),
    [
        ("WS1=ws1:104", "WS1", {"host": "ws1", "port": 104}),
        ("WS 1=tls:10.0.0.1:2762", "WS 1", {"host": "10.0.0.1", "port": 2762, "tls": True}),
        ("WS1=[::1]:104", "WS1", {"host": "::1", "port": 104}),
    ],
)
def test_a_destination_as_an_option(text: str, title: str, values: dict[str, object]) -> None:
    assert destination(text) == (title, values)


@pytest.mark.parametrize("text", ["", "WS1", "WS1=ws1", "WS1=:104", "=ws1:104", "WS1=ws1:x"])
def test_a_destination_that_is_none(text: str) -> None:
    with pytest.raises(ConfigurationError, match="NAME=HOST:PORT"):
        destination(text)
