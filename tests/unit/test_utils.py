"""AE titles, UIDs and bytes as programs hand them in."""

from __future__ import annotations

import logging
from io import BytesIO

import pytest
from pydicom.uid import UID

from dicomwire.utils import (
    decode_bytes,
    pretty_bytes,
    set_ae,
    set_title,
    set_uid,
    validate_uid,
)


@pytest.mark.parametrize("title", ["A", " A ", "ABCDEFGHIJKLMNOP", "a-_.,!(é)".replace("é", "e")])
def test_ae_title_comes_back_as_it_is(title):
    assert set_ae(title, "title", False, False) == title


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("A" * 17, "must not exceed 16 characters"),
        ("  " + "A" * 15, "must not exceed 16 characters"),
        ("é", "must be ASCII"),
        ("A\\B", "controls or backslashes"),
        ("A\x00", "controls or backslashes"),
        ("A\n", "controls or backslashes"),
        ("A\x7f", "controls or backslashes"),
    ],
)
def test_bad_ae_title(value, message):
    with pytest.raises(ValueError, match=message) as caught:
        set_ae(value, "title")
    assert "'title'" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", ["", "   "])
def test_empty_ae_title_only_where_allowed(value):
    assert set_ae(value, "title") == value
    with pytest.raises(ValueError, match="empty"):
        set_ae(value, "title", allow_empty=False)


def test_no_ae_title_only_where_allowed():
    assert set_ae(None, "title") is None
    with pytest.raises(TypeError, match="must be str, not NoneType"):
        set_ae(None, "title", allow_none=False)


@pytest.mark.parametrize("value", [b"A", 12])
def test_ae_title_is_str(value):
    with pytest.raises(TypeError, match="must be str or None, not"):
        set_ae(value, "title")


def test_title_of_bytes_is_deprecated():
    with pytest.warns(DeprecationWarning, match="bytes for 'title'") as caught:
        assert (lambda: set_title(b"ABC", "title"))() == "ABC"
    assert caught[0].filename == __file__


@pytest.mark.parametrize("value", ["", "  ", "A" * 17])
def test_title_is_a_whole_one(value):
    with pytest.raises(ValueError, match="title"):
        set_title(value, "title")


def test_title_is_not_none():
    with pytest.raises(TypeError, match="title"):
        set_title(None, "title")


@pytest.mark.parametrize("value", ["1.2.3", b"1.2.3", UID("1.2.3")])
def test_uid(value):
    uid = set_uid(value, "uid")
    assert uid == "1.2.3"
    assert isinstance(uid, UID)


@pytest.mark.parametrize("value", ["1.02", "abc", "1.2."])
def test_uid_that_does_not_conform_is_only_logged(value, caplog):
    with caplog.at_level(logging.WARNING, "dicomwire"):
        assert set_uid(value, "some_uid") == value
    (record,) = caplog.records
    assert "some_uid" in record.getMessage()
    assert value in record.getMessage()


def test_uid_that_is_not_to_be_validated(caplog):
    assert set_uid("a" * 65, "uid", validate=False) == "a" * 65
    assert set_uid(b"1.02", "uid", validate=False) == "1.02"
    assert not caplog.records


def test_uid_that_is_too_long():
    with pytest.raises(ValueError, match="1 to 64"):
        set_uid("1." * 32 + "1", "uid")


def test_empty_uid_only_where_allowed():
    assert set_uid("", "uid") == ""
    assert set_uid(b"", "uid") == ""
    with pytest.raises(ValueError, match="empty"):
        set_uid("", "uid", allow_empty=False)


def test_no_uid_only_where_allowed():
    assert set_uid(None, "uid") is None
    with pytest.raises(TypeError, match="must be str, bytes or UID, not NoneType"):
        set_uid(None, "uid", allow_none=False)


def test_uid_is_text():
    with pytest.raises(TypeError, match="must be str, bytes, UID or None, not int"):
        set_uid(12, "uid")


@pytest.mark.parametrize(
    ("value", "valid"), [("1.2.3", True), ("1.02", True), ("", False), ("1" * 65, False)]
)
def test_validate_uid_looks_at_the_length(value, valid):
    assert validate_uid(value) is valid


def test_decode_bytes():
    assert decode_bytes(b" AB\x00") == " AB\x00"
    with pytest.raises(ValueError, match="not ASCII"):
        decode_bytes(b"\xe9")


def test_pretty_bytes():
    assert pretty_bytes(b"") == []
    assert pretty_bytes(BytesIO(b"abc")) == ["  61  62  63"]
    assert pretty_bytes(bytes(range(20)))[1] == "  10  11  12  13"


def test_pretty_bytes_shows_the_beginning_of_many():
    lines = pretty_bytes(
        bytes(20), prefix=">", delimiter=",", items_per_line=5, max_size=12, suffix="<"
    )
    assert lines == [">First 12 of 20 bytes:", ">00,00,00,00,00<", ">00,00,00,00,00<", ">00,00<"]
    assert len(pretty_bytes(bytes(5000), max_size=None, items_per_line=10)) == 500
