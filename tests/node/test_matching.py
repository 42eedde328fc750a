"""The rules of matching, one attribute at a time (PS3.4 C.2.2.2), and what a database is asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    insert,
    select,
)

from dicomwire.node.identifier import ASCII_VRS
from dicomwire.node.keys import VALUE_LIMIT
from dicomwire.node.matching import NUMBER_VRS, WILDCARD_VRS, matcher_for
from dicomwire.node.names import fold_name, plain_name
from dicomwire.node.ranges import combined


def matches(vr: str, key: str, *stored: Any, fuzzy: bool = False) -> bool:
    matcher = matcher_for(vr, key.split("\\"), fuzzy)
    return matcher is None or matcher.matches(stored)


@pytest.mark.parametrize(
    ("vr", "key", "stored"),
    [
        ("LO", "CT", "CT"),
        ("LO", "CT", " CT "),
        ("SH", "a\\b", "b"),
        ("CS", "C?", "CT"),
        ("LO", "*\n*", "a\nb"),
        ("LO", "[a-z]*", "[a-z]bc"),
        ("AE", "NODE*", "NODE_1"),
        ("UI", "1.2\\1.3", "1.3"),
        ("IS", "+7", 7),
        ("IS", "7", "007"),
        ("DS", "1.5e1", 15.0),
        ("US", "512", 512),
        ("DA", "20240229", "20240229"),
        ("DA", "20240201 - 20240231", "20240229"),
        ("TM", "10", "100000"),
        ("TM", "-10", "105959.9"),
        ("TM", "1030-1030", "103059"),
        ("DT", "20240101-", "2024010112"),
        ("DT", "2024", "20240101"),
        ("DT", "-202402", "20240229235959"),
        ("DT", "20240101120000+0200", "20240101100000+0000"),
        ("DT", "20240101120000", "20240101120000-0700"),
        ("DT", "20240101-0500-20240101-0500", "20240101100000+0000"),
        ("AS", "050Y", "050Y"),
        ("LO", '""', ""),
        ("PN", "doe", "DOE"),
        ("PN", "Doe^John", {"Alphabetic": "doe^john"}),
        ("PN", "山田", {"Alphabetic": "Yamada", "Ideographic": "山田"}),
    ],
)
def test_what_matches(vr: str, key: str, stored: Any) -> None:
    assert matches(vr, key, stored)


@pytest.mark.parametrize(
    ("vr", "key", "stored"),
    [
        ("LO", "CT", "ct"),
        ("LO", "CT", "CTA"),
        ("LO", "CT", ""),
        ("LO", "C?", "C"),
        ("LO", "a.c", "abc"),
        ("LO", "?*", ""),
        ("UI", "1.2", "1.2.3"),
        ("IS", "7", "seven"),
        ("DA", "20240101-", "2024"),
        ("DA", "-20240101", ""),
        ("TM", "10", "1030"),
        ("TM", "-10", "110000"),
        ("TM", "10-11", "noon"),
        ("DT", "20240101120000+0200", "20240101120000+0000"),
        ("DT", "20240101-0500-20240101-0500", "20240101030000+0000"),
        ("LO", '""', "x"),
        ("PN", "muller", "Müller"),
        ("PN", "Doe", "Doe^John"),
        ("PN", "Doe*=*", ""),
        ("AS", "050Y", "50Y"),
        ("AS", "05*", "05*Y"),
    ],
)
def test_what_does_not_match(vr: str, key: str, stored: Any) -> None:
    assert not matches(vr, key, stored)


@pytest.mark.parametrize("vr", ["LO", "PN", "DA", "TM", "DT", "IS", "UI", "CS", "US"])
def test_an_empty_key_is_universal(vr: str) -> None:
    assert matcher_for(vr, []) is None
    assert matcher_for(vr, ["", " "]) is None


@pytest.mark.parametrize("vr", sorted({*WILDCARD_VRS, *NUMBER_VRS, *ASCII_VRS}))
@pytest.mark.parametrize("values", [["*"], [" * "], ["**"], ["*", "1"]])
def test_asterisks_alone_are_universal_for_every_vr(vr: str, values: list[str]) -> None:
    assert matcher_for(vr, values) is None
    assert matcher_for(vr, values, fuzzy=True) is None


@pytest.mark.parametrize("key", ["*^*", "^", "*="])
def test_a_name_of_nothing_but_asterisks_is_universal(key: str) -> None:
    assert matcher_for("PN", [key]) is None


@pytest.mark.parametrize(
    ("vr", "key"),
    [
        ("UI", "1.2.*"),
        ("UI", "one"),
        ("UI", "1" * 65),
        ("DS", "1,5"),
        ("DS", "NaN"),
        ("DS", "1" * 1000),
        ("US", "٣"),
        ("DA", "2024"),
        ("DA", "20241301"),
        ("DA", "20240101-2025"),
        ("DA", "20240101-20240102-20240103"),
        ("DA", "-"),
        ("DA", "٢٠٢٤٠١٠١"),
        ("DA", "-" * 10_000_000),
        ("TM", "24"),
        ("TM", "1:30"),
        ("TM", "10-11-12"),
        ("DT", "0000"),
        ("DT", "20240101+2500"),
        ("DT", "yesterday"),
        ("LO", "x" * (VALUE_LIMIT + 1)),
        ("PN", "*" * 10_000_000),
    ],
)
def test_malformed_keys_are_refused(vr: str, key: str) -> None:
    with pytest.raises(ValueError, match=r"not a|neither|too long"):
        matcher_for(vr, [key])


def test_too_many_values_are_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        matcher_for("LO", [str(number) for number in range(1000)])
    with pytest.raises(ValueError, match="too long"):
        matcher_for("LO", [f"{number}".ljust(1000, "x") for number in range(50)])
    assert matcher_for("UI", [f"1.{number}" for number in range(100_000)]) is not None


def test_any_value_of_an_attribute_is_enough() -> None:
    assert matches("CS", "B", "A", "B")
    assert not matches("CS", "B", "A", None, "C")
    assert not matches("CS", "B")


def test_a_key_that_is_a_list_is_met_by_any_of_it() -> None:
    assert matches("DA", "20240101\\20250101-", "20260101")
    assert matches("LO", 'x\\""', "")


@pytest.mark.parametrize("pattern", ["*a" * 5000, "?" * 10_000, "*a*b" * 2000 + "c", "a*" * 5000])
def test_no_pattern_takes_long(pattern: str) -> None:
    matcher = matcher_for("LT", [pattern])
    assert matcher is not None
    began = time.perf_counter()
    assert not matcher.matches(["ab" * 4000 + "d"])
    assert time.perf_counter() - began < 15


def test_no_name_takes_long() -> None:
    began = time.perf_counter()
    for key in ("Doe" + "^*" * 5000, "*^" * 5000, "=".join(["D*"] * 2000), "a b " * 2500):
        matches("PN", key, "Doe^John")
        matches("PN", key, "Doe^John", fuzzy=True)
    assert time.perf_counter() - began < 30


# --- Names ---


def test_plain_names_differ_in_more_than_case_and_emptiness() -> None:
    same = ["Doe^John", "DOE^JOHN^^^", "doe ^ John=", "Doe^John==", "DOE^John^"]
    assert {plain_name(name) for name in same} == {"doe^john"}
    assert plain_name("Müller") == plain_name("MU\u0308LLER") != plain_name("Muller")


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("Müller^Jörg", "muller^jorg"),
        ("Łukasz^Ørsted", "lukasz^orsted"),
        ("Straße", "strasse"),
        ("İstanbul", "istanbul"),
        ("Yamada^Tarou=山田^太郎", "yamada^tarou=山田^太郎"),
        ("Bell\a^Tab\t", "bell^tab"),
        ("Æsir", "aesir"),
    ],
)
def test_folded_names(name: str, folded: str) -> None:
    assert fold_name(name) == folded


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("john doe", "Doe^John"),
        ("MULLER", "Müller^Jörg^^Dr"),
        ("jörg", "Muller^Jorg"),
        ("tarou 山田", "Yamada^Tarou=山田^太郎"),
        ("do* j?hn", "Doe-Smith^John"),
        ("obrien o", "O^Obrien"),
    ],
)
def test_fuzzy_names(key: str, name: str) -> None:
    assert matches("PN", key, name, fuzzy=True)
    assert not matches("PN", f"{key} else", name, fuzzy=True)


def test_a_fuzzy_key_has_as_many_words_as_a_name_may() -> None:
    words = [f"w{number}" for number in range(101)]
    assert matches("PN", " ".join(words[:100]), " ".join(words[:50]), fuzzy=True) is False
    with pytest.raises(ValueError, match="too long"):
        matcher_for("PN", [" ".join(words)], fuzzy=True)


def test_no_more_of_a_name_is_looked_at_than_a_name_may_have() -> None:
    long = " ".join(["x"] * 128) + " jane"
    assert not matches("PN", "jane", long, fuzzy=True)
    assert matches("PN", "c", "a=b=c")
    assert not matches("PN", "e", "a=b=c=d=e")


@pytest.mark.parametrize("key", ["*", "**", "*^**"])
def test_nothing_but_asterisks_is_universal(key: str) -> None:
    assert matcher_for("PN", [key]) is matcher_for("PN", [key], fuzzy=True) is None


def test_fuzziness_is_for_names_alone() -> None:
    assert not matches("LO", "muller", "Müller", fuzzy=True)


# --- Dates with times ---


def test_dates_and_times_combined() -> None:
    both = combined(matcher_for("DA", ["20240101-20240103"]), matcher_for("TM", ["2200-0600"]))
    assert both is not None
    assert both.matches(["20240102"], ["120000"])
    assert both.matches(["20240101"], ["22"])
    assert both.matches(["20240103"], ["0600"])
    assert not both.matches(["20240101"], ["2159"])
    assert not both.matches(["20240103"], ["0601"])
    assert not both.matches(["20240102"], [])


def test_what_is_no_range_is_not_combined() -> None:
    assert combined(matcher_for("DA", ["20240101"]), None) is None
    times = matcher_for("TM", ["10-11"])
    assert combined(matcher_for("DA", ["20240101", "20240102"]), times) is None
    assert combined(None, times) is None


# --- Prefilters ---

HOSTILE = [
    "",
    "%",
    "_",
    "\\",
    "a%b_c\\d",
    "'",
    '"; DROP TABLE x --',
    "*",
    "?",
    "A*b",
    "É*",
    "doe^j?",
]
text = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(alphabet="aAbBéÉüÜß^=*?%_\\' \U0010ffff\ud7ff\u0301", max_size=8),
)


STORED = Table("stored", MetaData(), Column("at", Integer), Column("kept", String))


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        STORED.create(connection)
        yield connection
    engine.dispose()


@settings(max_examples=600)
@given(
    vr=st.sampled_from(["LO", "CS", "PN", "PN", "DA", "TM", "IS", "UI"]),
    key=text,
    stored=st.lists(text, min_size=1, max_size=6),
    fuzzy=st.booleans(),
)
def test_prefilters_select_all_that_matches(
    connection: Connection, vr: str, key: str, stored: list[str], fuzzy: bool
) -> None:
    """Also of values that are like the key."""
    stored = [each.strip(" ") for each in (*stored, key, key + "x", key.replace("*", "yy"))]
    try:
        matcher = matcher_for(vr, [key], fuzzy)
    except ValueError:
        return
    if matcher is None:
        return
    kept = [fold_name(each) if vr == "PN" else each for each in stored]
    connection.execute(delete(STORED))
    connection.execute(insert(STORED), [{"at": at, "kept": each} for at, each in enumerate(kept)])
    condition = matcher.prefilter(STORED.c.kept)
    query = select(STORED.c.at)
    rows = connection.execute(query if condition is None else query.where(condition))
    selected = set(rows.scalars())
    assert {at for at, each in enumerate(stored) if matcher.matches([each])} <= selected


@pytest.mark.parametrize("key", ["A" * 5000 + "*", "*" + "A" * 5000, "?" * 5000, "A\0B*"])
def test_long_and_odd_patterns_are_still_statements(connection: Connection, key: str) -> None:
    matcher = matcher_for("LT", [key])
    assert matcher is not None
    condition = matcher.prefilter(STORED.c.kept)
    assert condition is not None
    connection.execute(select(STORED.c.kept).where(condition)).all()
