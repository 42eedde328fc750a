"""What may come where an association request is awaited, and requests that are none."""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Iterator

import pytest
from hostile import (
    ASSOCIATE_RQ,
    ECHO,
    IMPLICIT_LITTLE,
    LENGTHS,
    RELEASE_RQ,
    VERIFICATION,
    Victim,
    besieged,
    item,
    pdu,
)

from dicomwire import evt

pytestmark = pytest.mark.usefixtures("face")

HEAD = ASSOCIATE_RQ[6:99]  # up to the first presentation context
APPLICATION_CONTEXT = item(0x10, b"1.2.840.10008.3.1.1.1")
VERSION_AND_TITLES = ASSOCIATE_RQ[6:74]
CONTEXT = item(0x20, bytes((1, 0, 0, 0)) + item(0x30, VERIFICATION) + item(0x40, IMPLICIT_LITTLE))
MAXIMUM = item(0x51, struct.pack(">I", 16382))
TLS_HELLO = bytes.fromhex("160301020001000001fc0303") + bytes(500)
HL7 = b"\x0bMSH|^~\\&|HIS|DOE|||20240101||ADT^A01|1|P|2.3\rPID|1||42||DOE^JOHN\r\x1c\r"
HTTP = b"GET / HTTP/1.1\r\nHost: archive\r\n\r\n"


@pytest.fixture
def victim() -> Iterator[Victim]:
    with besieged() as victim:
        yield victim


def request(*items: bytes, titles: bytes = VERSION_AND_TITLES) -> bytes:
    """An association request of these items."""
    return pdu(1, titles + b"".join(items))


def user_information(*items: bytes) -> bytes:
    return item(0x50, b"".join(items))


def good_request(*items: bytes) -> bytes:
    return request(APPLICATION_CONTEXT, CONTEXT, user_information(MAXIMUM, *items))


def is_clean_end(answer: bytes) -> bool:
    """Whether `answer` is nothing, or one A-ABORT of the service provider or a rejection."""
    return (
        not answer
        or (len(answer) == 10 and answer[:8] == b"\7\0\0\0\0\4\0\0")
        or (len(answer) == 10 and answer[0] == 3)
    )


FOREIGN = {
    "tls hello": TLS_HELLO,
    "hl7": HL7,
    "http": HTTP,
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "zeros": bytes(1000),
    "ones": b"\xff" * 1000,
    "unknown pdu": pdu(0x2A, b"what?"),
    "unknown pdu of 4 GiB": pdu(8, b"", 2**32 - 1),
    "request of 4 GiB": pdu(1, b"", 2**32 - 1),
    "request of 4 GiB, and some of it": pdu(1, HEAD, 2**32 - 1),
    "request of 2 GiB": pdu(1, b"", 2**31),
    "request above the limit by one": pdu(1, b"", 2**20 + 1),
    "data of 4 GiB": pdu(4, b"", 2**32 - 1),
    "data": ECHO,
    "answer": pdu(2, ASSOCIATE_RQ[6:]),
    "rejection": pdu(3, bytes((0, 1, 1, 1))),
    "release": pdu(5, bytes(4)),
    "release of 4 GiB": pdu(5, b"", 2**32 - 1),
    "release answer": pdu(6, bytes(4)),
    "abort of 4 GiB": pdu(7, b"", 2**32 - 1),
    "empty request": pdu(1, b""),
    "request of one byte": pdu(1, b"\0"),
    "request without items": pdu(1, VERSION_AND_TITLES),
    "titles cut short": pdu(1, VERSION_AND_TITLES[:-1]),
    "half an item header": pdu(1, VERSION_AND_TITLES + b"\x10\0"),
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN.keys())
def test_what_is_no_request_is_answered_with_an_abort(victim: Victim, data: bytes) -> None:
    with victim.attacked(), victim.attacker() as attacker:
        assert is_clean_end(attacker.send(data).rest())


@pytest.mark.parametrize("name", ["http", "request of 4 GiB", "data", "half an item header"])
def test_what_is_no_request_is_answered_when_all_is_observed(name: str) -> None:
    """What is observed takes other ways."""
    with (
        besieged(level=logging.DEBUG) as victim,
        victim.attacked(),
        victim.attacker() as attacker,
    ):
        assert is_clean_end(attacker.send(FOREIGN[name]).rest())


def test_an_abort_before_anything_else_is_taken_for_the_end(victim: Victim) -> None:
    with victim.attacked(lines=None), victim.attacker() as attacker:
        assert attacker.send(pdu(7, bytes(4))).rest() == b""


@pytest.mark.parametrize("end", [0, 1, 5, 6, 7, 73, 80, len(ASSOCIATE_RQ) - 1])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_peer_that_vanishes_in_the_middle_of_its_request(
    victim: Victim, end: int, how: str
) -> None:
    with victim.attacked(), victim.attacker() as attacker:
        attacker.send(ASSOCIATE_RQ[:end])
        attacker.socket.close() if how == "close" else attacker.reset()


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_peer_that_vanishes_after_its_request(victim: Victim, how: str) -> None:
    with victim.attacked(lines=None):
        for _ in range(20):  # the answer finds it gone, or not yet
            with victim.attacker() as attacker:
                attacker.send(ASSOCIATE_RQ)
                attacker.socket.close() if how == "close" else attacker.reset()
        # Connections are taken in order: once this one is answered, all of those have been taken.
        with victim.attacker() as last:
            assert last.send(ASSOCIATE_RQ).receive_pdu()


# --- Lengths ---------------------------------------------------------------------------------


@pytest.mark.parametrize("length", sorted({*LENGTHS, len(ASSOCIATE_RQ) - 6 - 1}))
def test_the_length_of_the_request(victim: Victim, length: int) -> None:
    data = ASSOCIATE_RQ[:2] + struct.pack(">I", length) + ASSOCIATE_RQ[6:]
    with victim.attacked(), victim.attacker() as attacker:
        attacker.send(data)
        if length == 0xFFFF:  # a request that is not complete, for all anyone knows
            attacker.socket.close()
        else:
            assert is_clean_end(attacker.rest())


FULL_REQUEST = good_request(
    item(0x52, b"1.2.3.4"),
    item(0x53, struct.pack(">HH", 1, 1)),
    item(0x54, struct.pack(">H", len(VERIFICATION)) + VERIFICATION + b"\1\1"),
    item(0x55, b"EVIL"),
    item(0x56, struct.pack(">H", len(VERIFICATION)) + VERIFICATION + b"\1"),
    item(
        0x57,
        struct.pack(">H", 5) + b"1.2.3" + struct.pack(">H", 5) + b"1.2.4" + b"\0\7\0\5" + b"1.2.5",
    ),
    item(0x58, b"\2\1" + struct.pack(">H", 4) + b"user" + struct.pack(">H", 4) + b"pass"),
)


def length_fields(request: bytes) -> dict[str, int]:
    """Where each 16-bit length of an item in `request` is, by the item's place in it."""
    fields: dict[str, int] = {}

    def walk(at: int, end: int, path: str) -> None:
        number = 0
        while at < end:
            kind, length = request[at], int.from_bytes(request[at + 2 : at + 4], "big")
            number += 1
            name = f"{path}{number}:{kind:02X}"
            fields[name] = at + 2
            if kind in (0x20, 0x50):
                walk(at + (8 if kind == 0x20 else 4), at + 4 + length, f"{name}/")
            elif kind in (0x54, 0x56, 0x57):
                fields[f"{name} uid"] = at + 4
            elif kind == 0x58:
                fields[f"{name} primary"] = at + 6
            at += 4 + length

    walk(74, len(request), "")
    return fields


@pytest.mark.threaded_only("both faces parse a request with the same function")
@pytest.mark.parametrize("field", length_fields(FULL_REQUEST).items(), ids=lambda field: field[0])
def test_the_length_of_every_item(victim: Victim, field: tuple[str, int]) -> None:
    at = field[1]
    actual = int.from_bytes(FULL_REQUEST[at : at + 2], "big")
    with victim.attacked(lines=None):
        for length in {0, 1, actual - 1, actual + 1, 2**15, 2**16 - 1} - {actual}:
            data = FULL_REQUEST[:at] + struct.pack(">H", length) + FULL_REQUEST[at + 2 :]
            with victim.attacker() as attacker:
                answer = attacker.send(data).receive_pdu()
            # By chance some still make sense: each is answered, one way or other.
            assert answer[:1] == b"\2" or is_clean_end(answer), (length, answer)


# --- Amounts ---------------------------------------------------------------------------------

MANY = {
    "items of an unknown type": request(item(0x11, b"") * 10_000),
    "application contexts": request(APPLICATION_CONTEXT * 10_000),
    "presentation contexts": request(APPLICATION_CONTEXT, CONTEXT * 10_000),
    "transfer syntaxes": request(
        APPLICATION_CONTEXT,
        item(0x20, bytes((1, 0, 0, 0)) + item(0x30, VERIFICATION) + item(0x40, b"1") * 10_000),
    ),
    "user information sub-items": good_request(item(0x52, b"1") * 10_000),
    "user informations": request(APPLICATION_CONTEXT, CONTEXT, user_information(MAXIMUM) * 10_000),
}


@pytest.mark.threaded_only("both faces parse a request with the same function")
@pytest.mark.parametrize("data", MANY.values(), ids=MANY.keys())
def test_a_request_of_ten_thousand(victim: Victim, data: bytes) -> None:
    with victim.attacked(), victim.attacker() as attacker:
        assert is_clean_end(attacker.send(data).rest())


def test_a_request_of_a_mebibyte_of_ten_thousand_items(victim: Victim) -> None:
    data = request(item(0x11, bytes(100)) * 10_080)
    assert 2**20 - 2000 < len(data) <= 2**20
    with victim.attacked(peak=8 << 20), victim.attacker() as attacker:
        assert is_clean_end(attacker.send(data).rest())


def test_a_request_that_is_as_large_as_one_may_be(victim: Victim) -> None:
    """It is full of what has to be kept, and still does not expand to much."""
    syntaxes = item(0x40, IMPLICIT_LITTLE) + b"".join(
        item(0x40, b"1.2.3.%d" % number) for number in range(250)
    )
    contexts = [
        item(0x20, bytes((2 * number + 1, 0, 0, 0)) + item(0x30, VERIFICATION) + syntaxes)
        for number in range(128)
    ]
    related = b"".join(struct.pack(">H", 0) for _ in range(30_000))
    classes = item(0x57, b"\0\0\0\0" + struct.pack(">H", len(related)) + related)
    data = request(APPLICATION_CONTEXT, *contexts, user_information(classes))
    with victim.attacked(lines=0, peak=40 << 20), victim.attacker() as attacker:
        answer = attacker.send(data).receive_pdu()
        assert answer[:1] == b"\2"
        attacker.send(pdu(5, bytes(4)))
        assert attacker.rest() == pdu(6, bytes(4))


def test_extended_negotiation_of_thousands_of_classes() -> None:
    """The answer repeats all of them, and does not take time in proportion to their square."""
    items = [
        item(0x56, struct.pack(">H", len(uid)) + uid + b"x")
        for uid in (b"1.2.%d" % number for number in range(2000))
    ]
    with (
        besieged([(evt.EVT_SOP_EXTENDED, lambda event: event.app_info)]) as victim,
        victim.attacked(lines=0, peak=8 << 20),
        victim.attacker() as attacker,
    ):
        began = time.process_time()
        answer = attacker.send(good_request(*items)).receive_pdu()
        assert time.process_time() - began < 1
        assert answer[:1] == b"\2"
        assert answer.count(b"\x56\0") >= 2000
        attacker.send(RELEASE_RQ).rest()


# --- Contents --------------------------------------------------------------------------------

TITLES = {
    "empty": b"",
    "spaces": b" " * 16,
    "zeros": bytes(16),
    "line ends": b"X\r\nI: forged\x1b[2J",
    "backslash": b"..\\..\\x",
    "not ascii": b"\xff" * 16,
    "path": b"../../etc/passwd",
}


@pytest.mark.threaded_only("both faces parse a request with the same function")
@pytest.mark.parametrize("title", TITLES.values(), ids=TITLES.keys())
@pytest.mark.parametrize("which", ["called", "calling"])
def test_strange_titles_do_no_harm(victim: Victim, title: bytes, which: str) -> None:
    called = title if which == "called" else b"ARCHIVE"
    calling = title if which == "calling" else b"MODALITY"
    titles = struct.pack(">HH", 1, 0) + called.ljust(16) + calling.ljust(16) + bytes(32)
    data = request(APPLICATION_CONTEXT, CONTEXT, user_information(MAXIMUM), titles=titles)
    with victim.attacked(lines=0), victim.attacker() as attacker:
        attacker.associate(data).send(ECHO)
        assert attacker.receive_pdu()[:1] == b"\4"
        attacker.send(pdu(5, bytes(4)))
        assert attacker.rest() == pdu(6, bytes(4))


def test_strange_titles_are_logged_on_one_line() -> None:
    titles = struct.pack(">HH", 1, 0) + b"A\r\nI: forged\x1b[2J".ljust(16) * 2 + bytes(32)
    data = request(APPLICATION_CONTEXT, CONTEXT, user_information(MAXIMUM), titles=titles)
    with besieged() as victim:
        victim.ae.require_calling_aet = ["DICOMWIRE"]
        with victim.attacked(), victim.attacker() as attacker:
            assert attacker.send(data).rest()[:1] == b"\3"


STRANGE_UIDS = {
    "empty": b"",
    "zeros": bytes(8),
    "controls": b"1.2\r\n\x1b[2J.3",
    "path": b"../../x",
    "words": b"no uid at all",
    "too long": b"1." * 5000 + b"1",
    "not ascii": b"1.2.\xff\xfe",
}


@pytest.mark.threaded_only("both faces parse a request with the same function")
@pytest.mark.parametrize("uid", STRANGE_UIDS.values(), ids=STRANGE_UIDS.keys())
@pytest.mark.parametrize(
    "where", ["application context", "abstract syntax", "transfer syntax", "implementation", "role"]
)
def test_strange_uids_do_no_harm(victim: Victim, uid: bytes, where: str) -> None:
    def at(place: str, uid_there: bytes) -> bytes:
        return uid if place == where else uid_there

    data = request(
        item(0x10, at("application context", b"1.2.840.10008.3.1.1.1")),
        CONTEXT,
        item(
            0x20,
            bytes((3, 0, 0, 0))
            + item(0x30, at("abstract syntax", VERIFICATION))
            + item(0x40, at("transfer syntax", IMPLICIT_LITTLE)),
        ),
        user_information(
            MAXIMUM,
            item(0x52, at("implementation", b"1.2.3")),
            item(0x54, struct.pack(">H", len(at("role", b"1.2"))) + at("role", b"1.2") + b"\1\1"),
        ),
    )
    with victim.attacked(lines=None), victim.attacker() as attacker:
        answer = attacker.send(data).receive_pdu()
        assert answer[:1] == b"\2" or is_clean_end(answer), answer


def test_an_even_context_id(victim: Victim) -> None:
    """That context is rejected, and a message in it ends the association."""
    context = item(0x20, bytes((2, 0, 0, 0)) + CONTEXT[8:])
    with victim.attacked(lines=2), victim.attacker() as attacker:
        data = request(APPLICATION_CONTEXT, context, user_information(MAXIMUM))
        assert attacker.send(data).receive_pdu()[:1] == b"\2"
        assert is_clean_end(attacker.send(ECHO[:10] + b"\2" + ECHO[11:]).rest())


@pytest.mark.parametrize("version", [0, 2, 0xFFFE])
def test_a_protocol_version_that_is_not_ours(victim: Victim, version: int) -> None:
    titles = struct.pack(">H", version) + VERSION_AND_TITLES[2:]
    with victim.attacked(), victim.attacker() as attacker:
        data = request(APPLICATION_CONTEXT, CONTEXT, user_information(MAXIMUM), titles=titles)
        assert attacker.send(data).rest() == bytes((3, 0, 0, 0, 0, 4, 0, 1, 2, 2))
