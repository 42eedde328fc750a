"""Command sets: the tables against pydicom's dictionary, what is sent, and what is taken."""

from __future__ import annotations

import re
import struct
from dataclasses import fields
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID

from dicomwire.errors import AbortReason, AbortSource, RemoteProtocolError
from dicomwire.protocol.command import (
    CARRIED,
    ELEMENTS,
    Command,
    Message,
    decode_command,
    encode_command,
)

SAMPLES: dict[str, Any] = {
    "UI": UID("1.2.840.10008.5.1.4.1.1.2"),
    "US": 0x0102,
    "AE": "STORE_SCP",
    "LO": "No space left",
    "AT": [BaseTag(0x00100020), BaseTag(0x7FE00010)],
}


def sample(keyword: str) -> Any:
    return 1 if keyword == "Priority" else SAMPLES[ELEMENTS[keyword].vr]


def carried(command: Command) -> tuple[str, ...]:
    return CARRIED[command].required + CARRIED[command].optional


def full_message(command: Command, has_dataset: bool = False) -> Message:
    """A message with every element that its command may carry."""
    values = {keyword: sample(keyword) for keyword in carried(command)}
    return Message(command, has_dataset=has_dataset, **values)


def element(keyword: str, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, ELEMENTS[keyword].number, len(value)) + value


def split(command_set: bytes) -> dict[str, bytes]:
    """The elements of a command set by keyword, without its group length."""
    keywords = {number: keyword for keyword, (number, _) in ELEMENTS.items()}
    elements = {}
    position = 12
    while position < len(command_set):
        _, number, length = struct.unpack_from("<HHI", command_set, position)
        elements[keywords[number]] = command_set[position : position + 8 + length]
        position += 8 + length
    return elements


def with_value(command: Command, keyword: str, value: bytes | None) -> bytes:
    """A full command set in which `keyword` has the bytes `value`, or is left out for None."""
    elements = split(encode_command(full_message(command)))
    if value is None:
        del elements[keyword]
    else:
        elements[keyword] = element(keyword, value)
    return b"".join(elements.values())


def refused(command_set: bytes) -> str:
    """The text of the fault that `command_set` is."""
    with pytest.raises(RemoteProtocolError) as caught:
        decode_command(command_set)
    assert caught.value.source is AbortSource.SERVICE_USER
    assert caught.value.reason is AbortReason.NOT_SPECIFIED
    return str(caught.value)


every_command = pytest.mark.parametrize("command", list(Command), ids=lambda c: c.name)
every_element = pytest.mark.parametrize(
    ("command", "keyword"),
    [(command, keyword) for command in Command for keyword in carried(command)],
    ids=lambda value: value.name if isinstance(value, Command) else value,
)


# -- the tables ---------------------------------------------------------------------------------


@pytest.mark.parametrize("keyword", ELEMENTS)
def test_elements_are_those_of_the_data_dictionary(keyword: str) -> None:
    assert ELEMENTS[keyword].number == tag_for_keyword(keyword)
    assert ELEMENTS[keyword].vr == dictionary_VR(keyword)


def test_messages_have_an_attribute_per_element() -> None:
    keywords = ELEMENTS.keys() - {"CommandField", "CommandDataSetType"}
    others = {"command", "has_dataset", "unusable"}
    assert {field.name for field in fields(Message)} == keywords | others
    assert {keyword for command in Command for keyword in carried(command)} == keywords


def test_every_request_has_its_response() -> None:
    requests = set(Command) - {Command.C_CANCEL_RQ}
    assert {c ^ 0x8000 for c in requests} == {int(c) for c in requests}
    assert CARRIED.keys() == set(Command)


@every_command
def test_kind_and_name(command: Command) -> None:
    message = Message(command)
    assert message.is_response == command.name.endswith("_RSP")
    assert message.name == command.name.replace("_", "-")


@every_command
@pytest.mark.parametrize("has_dataset", [True, False])
def test_the_command_set_as_a_dataset_is_what_pydicom_reads(
    command: Command, has_dataset: bool
) -> None:
    message = full_message(command, has_dataset)
    read = read_dataset(BytesIO(encode_command(message)), True, True)
    del read.CommandGroupLength
    assert message.command_set == read


def test_a_command_set_as_a_dataset_of_what_lacks_something() -> None:
    message = Message(Command.C_ECHO_RSP, ErrorComment="a\\b")
    assert [each.keyword for each in message.command_set] == [
        "CommandField",
        "CommandDataSetType",
        "ErrorComment",
    ]
    assert message.command_set.ErrorComment == "a\\b"


def test_attributes_default_to_none() -> None:
    message = Message(Command.C_ECHO_RQ)
    assert all(
        getattr(message, field.name) is None
        for field in fields(Message)
        if field.name not in ("command", "has_dataset", "unusable")
    )
    assert (message.has_dataset, message.unusable) == (False, ())


# -- both ways ----------------------------------------------------------------------------------


def test_c_echo_request_byte_for_byte() -> None:
    message = Message(Command.C_ECHO_RQ, MessageID=7, AffectedSOPClassUID=UID("1.2.840.10008.1.1"))
    expected = bytes.fromhex(
        "00000000 04000000 38000000"
        "00000200 12000000 312e322e3834302e31303030382e312e3100"
        "00000001 02000000 3000"
        "00001001 02000000 0700"
        "00000008 02000000 0101"
    )
    assert encode_command(message) == expected
    assert decode_command(memoryview(expected)) == message


@every_command
@pytest.mark.parametrize("has_dataset", [False, True])
def test_full_messages_come_back(command: Command, has_dataset: bool) -> None:
    message = full_message(command, has_dataset)
    assert decode_command(encode_command(message)) == message


@every_command
def test_messages_of_required_elements_come_back(command: Command) -> None:
    values = {keyword: sample(keyword) for keyword in CARRIED[command].required}
    message = Message(command, **values)
    assert decode_command(encode_command(message)) == message


@every_command
def test_pydicom_reads_what_we_send(command: Command) -> None:
    encoded = encode_command(full_message(command, has_dataset=True))
    dataset = read_dataset(BytesIO(encoded), is_implicit_VR=True, is_little_endian=True)
    tags = list(dataset.keys())
    assert tags == sorted(tags)
    assert dataset.CommandGroupLength == len(encoded) - 12
    assert dataset.CommandField == command
    assert dataset.CommandDataSetType != 0x0101
    for keyword in carried(command):
        assert dataset[keyword].value == sample(keyword), keyword
    assert len(dataset) == 3 + len(carried(command))


@every_command
def test_what_pydicom_writes_is_read(command: Command) -> None:
    dataset = Dataset()
    dataset.CommandField = command
    dataset.CommandDataSetType = 0x0101
    for keyword in carried(command):
        setattr(dataset, keyword, sample(keyword))
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = buffer.is_little_endian = True
    write_dataset(buffer, dataset)
    assert decode_command(buffer.getvalue()) == full_message(command)


CODE = st.integers(0, 0xFFFF)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "UI": st.lists(st.text("0123456789", min_size=1, max_size=10), min_size=1, max_size=5)
    .map(".".join)
    .map(lambda text: str.__new__(UID, text)),
    "US": CODE,
    "AE": st.from_regex(r"[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?", fullmatch=True),
    "LO": st.from_regex(r"[!-\[\]-~]([ -\[\]-~]{0,62}[!-\[\]-~])?", fullmatch=True),
    "AT": st.lists(st.integers(0, 0xFFFFFFFF).map(BaseTag), min_size=1, max_size=8),
}


@st.composite
def messages(draw: st.DrawFn, command: Command) -> Message:
    required, optional = CARRIED[command]
    values = {}
    for keyword in (*required, *optional):
        value = st.integers(0, 2) if keyword == "Priority" else VALUES[ELEMENTS[keyword].vr]
        values[keyword] = draw(value if keyword in required else st.none() | value)
    return Message(command, has_dataset=draw(st.booleans()), **values)


def test_a_message_is_shown_with_its_elements() -> None:
    response = Message(Command.C_STORE_RSP, MessageIDBeingRespondedTo=7, Status=0xA700)
    response.ErrorComment = "dépassé"
    shown = repr(response)
    assert shown.startswith("<C-STORE-RSP ")
    assert "MessageIDBeingRespondedTo=7" in shown
    assert "Status=0xA700" in shown
    assert "ErrorComment='d\\xe9pass\\xe9'" in shown
    request = Message(Command.C_FIND_RQ, MessageID=1, Priority=2, has_dataset=True)
    assert repr(request).endswith("Priority=2, with a dataset>")


@every_command
@given(data=st.data())
def test_any_message_comes_back(command: Command, data: st.DataObject) -> None:
    message = data.draw(messages(command))
    encoded = encode_command(message)
    assert len(encoded) % 2 == 0
    assert decode_command(encoded) == message


# -- sending: strict ----------------------------------------------------------------------------


@every_element
def test_sending_without_an_element(command: Command, keyword: str) -> None:
    message = full_message(command)
    setattr(message, keyword, None)
    if keyword in CARRIED[command].required:
        with pytest.raises(ValueError, match=f"A {message.name} needs {keyword}"):
            encode_command(message)
    else:
        assert keyword not in split(encode_command(message))


def test_what_a_command_does_not_carry_is_not_sent() -> None:
    message = full_message(Command.C_ECHO_RQ)
    message.Status = 0
    assert encode_command(message) == encode_command(full_message(Command.C_ECHO_RQ))


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("MessageID", -1),
        ("MessageID", 65536),
        ("MessageID", "1"),
        ("Priority", 3),
        ("AffectedSOPClassUID", ""),
        ("AffectedSOPClassUID", "1" * 65),
        ("AffectedSOPInstanceUID", "1.2\\1.3"),
        ("AffectedSOPInstanceUID", "1.2\n"),
        ("AffectedSOPInstanceUID", "1.²"),
        ("MoveOriginatorApplicationEntityTitle", ""),
        ("MoveOriginatorApplicationEntityTitle", "   "),
        ("MoveOriginatorApplicationEntityTitle", "A" * 17),
        ("MoveOriginatorApplicationEntityTitle", "A\\B"),
        ("MoveOriginatorApplicationEntityTitle", "Å"),
    ],
)
def test_values_that_do_not_fit_are_refused(keyword: str, value: object) -> None:
    message = full_message(Command.C_STORE_RQ)
    setattr(message, keyword, value)
    with pytest.raises(ValueError, match=keyword):
        encode_command(message)


def test_tags_that_do_not_fit_are_refused() -> None:
    message = full_message(Command.N_GET_RQ)
    message.AttributeIdentifierList = [BaseTag(1 << 32)]
    with pytest.raises(ValueError, match="AttributeIdentifierList"):
        encode_command(message)


def test_odd_lengths_are_padded() -> None:
    message = full_message(Command.C_MOVE_RSP)
    message.AffectedSOPClassUID = UID("1.2.3")
    message.ErrorComment = "odd"
    elements = split(encode_command(message))
    assert elements["AffectedSOPClassUID"].endswith(b"1.2.3\0")
    assert elements["ErrorComment"].endswith(b"odd ")

    message = full_message(Command.C_MOVE_RQ)
    message.MoveDestination = " ODD "
    assert split(encode_command(message))["MoveDestination"].endswith(b"\x04\0\0\0ODD ")


@pytest.mark.parametrize(
    ("comment", "sent"),
    [
        ("Plätte voll", b"Pl?tte voll "),
        ("磁盘满", b"??? "),
        ("No room in D:\\images", b"No room in D:?images"),
        ("first\r\nsecond\tline\x7f", b"first second line "),
        ("é" + "x" * 100, b"?" + b"x" * 63),
    ],
)
def test_comments_are_sent_as_one_value_of_printable_ascii(comment: str, sent: bytes) -> None:
    message = full_message(Command.C_ECHO_RSP)
    message.ErrorComment = comment
    assert split(encode_command(message))["ErrorComment"] == element("ErrorComment", sent)


# -- receiving: what is missing or cannot be read ----------------------------------------------

INDISPENSABLE = ("MessageID", "MessageIDBeingRespondedTo", "Status")
"""Without these nobody could say what a message belongs to, or whether it is the last."""


@every_element
def test_receiving_without_an_element(
    command: Command, keyword: str, caplog: pytest.LogCaptureFixture
) -> None:
    for value in (None, b""):
        caplog.clear()
        command_set = with_value(command, keyword, value)
        fault = f"{Message(command).name} without {keyword}"
        if keyword in INDISPENSABLE and keyword in CARRIED[command].required:
            assert refused(command_set) == fault
            continue
        message = decode_command(command_set)
        if keyword == "Priority":
            assert (message.Priority, message.unusable) == (0, ())
        elif keyword in CARRIED[command].required:
            assert (getattr(message, keyword), message.unusable) == (None, (keyword,))
            assert caplog.messages == [f"{message.name}: {fault}"]
        else:
            assert (getattr(message, keyword), message.unusable) == (None, ())


WRONG_LENGTH = {
    "US": (b"\0", b"\0\0\0", b"\0\0\0\0", b"\0" * 8),
    "UI": (b"1" * 65, b"1" * 66, b"1.2" + b"\0" * 62),
    "AE": (b"A" * 17, b"A" * 1000),
    "AT": (b"\0", b"\0\0", b"\0\0\0", b"\0" * 5, b"\0" * 66),
}
WRONG_MULTIPLICITY = {
    "US": (b"\1\0\2\0",),
    "UI": (b"1.2\\1.3\0",),
    "AE": (b"A\\B ",),
}
WRONG_CHARACTERS = {"UI": (b"1.2.\xe9\0", b"1.2\n3\0", b"1\0.2")}


@every_element
def test_receiving_a_bad_value(
    command: Command, keyword: str, caplog: pytest.LogCaptureFixture
) -> None:
    vr = ELEMENTS[keyword].vr
    for table in (WRONG_LENGTH, WRONG_MULTIPLICITY, WRONG_CHARACTERS):
        for value in table.get(vr, ()):
            caplog.clear()
            command_set = with_value(command, keyword, value)
            if keyword in INDISPENSABLE and keyword in CARRIED[command].required:
                assert refused(command_set).startswith(keyword)
                continue
            message = decode_command(command_set)
            if keyword == "MoveOriginatorApplicationEntityTitle":
                assert (getattr(message, keyword), message.unusable) == (
                    value[:1].decode() if b"\\" in value else "A" * 16,
                    (),
                )
                continue
            assert message.Priority in (None, 0, 1)
            assert message.unusable == (() if keyword == "Priority" else (keyword,))
            assert f"{message.name}: {keyword} is " in caplog.text


def test_a_bad_value_of_what_the_command_does_not_carry_makes_nothing_unusable() -> None:
    command_set = encode_command(full_message(Command.C_ECHO_RQ))
    message = decode_command(command_set + element("MoveDestination", b"A" * 17))
    assert message == full_message(Command.C_ECHO_RQ)


@pytest.mark.parametrize("values", [(b"1" * 65, b"1.2"), (b"1.2", b"1" * 65)])
def test_of_repeated_elements_the_last_counts_also_when_it_cannot_be_read(
    values: tuple[bytes, bytes],
) -> None:
    command_set = encode_command(full_message(Command.C_ECHO_RQ))
    for value in values:
        command_set += element("AffectedSOPClassUID", value)
    uid = "1.2" if values[-1] == b"1.2" else None
    message = decode_command(command_set)
    assert message.AffectedSOPClassUID == uid
    assert message.unusable == (() if uid else ("AffectedSOPClassUID",))


@every_command
@pytest.mark.parametrize("keyword", ["CommandField", "CommandDataSetType"])
def test_receiving_without_what_all_commands_have(command: Command, keyword: str) -> None:
    for value in (None, b""):
        assert refused(with_value(command, keyword, value)) == f"Command set without {keyword}"
    for value in WRONG_LENGTH["US"]:
        assert refused(with_value(command, keyword, value)).startswith(keyword)


@pytest.mark.parametrize("field", [0x0000, 0x0002, 0x8FFF, 0x7777, 0xFFFF])
def test_unknown_commands_are_refused(field: int) -> None:
    command_set = with_value(Command.C_ECHO_RQ, "CommandField", struct.pack("<H", field))
    assert refused(command_set) == f"CommandField {field:04X}H is no DIMSE message"


def test_every_other_command_field_is_refused() -> None:
    known = set(map(int, Command))
    before, after = with_value(Command.C_ECHO_RQ, "CommandField", b"@@").split(b"@@")
    for field in range(0x10000):
        if field not in known:
            with pytest.raises(RemoteProtocolError):
                decode_command(before + struct.pack("<H", field) + after)


@pytest.mark.parametrize("group", [0x0002, 0x0008, 0x7FE0])
def test_elements_of_other_groups_are_skipped_with_a_warning(
    group: int, caplog: pytest.LogCaptureFixture
) -> None:
    stray = struct.pack("<HHI", group, 0x0058, 2) + b"\0\0"
    message = full_message(Command.C_GET_RSP)
    assert decode_command(encode_command(message) + stray) == message
    assert decode_command(stray + encode_command(message)) == message
    text = f"C-GET-RSP: elements outside group 0000 are skipped, such as ({group:04X},0058)"
    assert caplog.messages == [text, text]


@pytest.mark.parametrize("length", [3, 0x10000, 0x80000000, 0xFFFFFFFF])
def test_lengths_beyond_the_end_are_refused(length: int) -> None:
    command_set = encode_command(full_message(Command.C_ECHO_RQ))
    stray = struct.pack("<HHI", 0, 0x0902, length) + b"no"
    text = refused(command_set + stray)
    assert text == f"Command element (0000,0902): {length} bytes claimed, 2 present"


def test_nothing_is_refused_too() -> None:
    assert refused(b"") == "Command set without CommandField"


# -- receiving: what is tolerated ---------------------------------------------------------------


@pytest.mark.parametrize(
    "group_length",
    [
        b"",
        struct.pack("<HHII", 0, 0, 4, 3),
        struct.pack("<HHI", 0, 0, 0),
        struct.pack("<HHI", 0, 0, 2) + b"AB",
    ],
    ids=["missing", "wrong", "empty", "short"],
)
def test_group_length_is_not_looked_at(group_length: bytes) -> None:
    message = full_message(Command.C_STORE_RQ)
    assert decode_command(group_length + encode_command(message)[12:]) == message


def test_order_does_not_matter() -> None:
    message = full_message(Command.C_STORE_RQ)
    elements = list(split(encode_command(message)).values())
    assert decode_command(b"".join(reversed(elements))) == message


def test_the_last_of_repeated_elements_counts() -> None:
    message = full_message(Command.C_ECHO_RQ)
    command_set = encode_command(message)
    assert decode_command(command_set + element("MessageID", b"\5\0")).MessageID == 5
    assert decode_command(command_set + element("MessageID", b"")) == message


@pytest.mark.parametrize("number", [0x0001, 0x0010, 0x0200, 0x0850, 0x4000, 0x51B0, 0xFFFF])
def test_retired_and_unknown_elements_are_skipped(number: int) -> None:
    message = full_message(Command.C_FIND_RQ)
    stray = struct.pack("<HHI", 0, number, 3) + b"abc"
    assert decode_command(stray + encode_command(message) + stray) == message


def test_elements_of_other_commands_are_kept() -> None:
    command_set = encode_command(full_message(Command.C_ECHO_RSP)) + element("MessageID", b"\5\0")
    assert decode_command(command_set).MessageID == 5


@pytest.mark.parametrize(
    ("keyword", "raw", "value"),
    [
        ("AffectedSOPInstanceUID", b"1.2.3", "1.2.3"),
        ("AffectedSOPInstanceUID", b"1.2.3 ", "1.2.3"),
        ("AffectedSOPInstanceUID", b"1.2.3\0\0\0", "1.2.3"),
        ("AffectedSOPInstanceUID", b"not-a-uid\0", "not-a-uid"),
        ("AffectedSOPClassUID", b"1" * 64, "1" * 64),
        ("MoveOriginatorApplicationEntityTitle", b"  ODD\0", "ODD"),
        ("MoveOriginatorApplicationEntityTitle", b"A" * 16 + b"  ", "A" * 16),
        ("MoveOriginatorApplicationEntityTitle", b"  ", None),
        ("MoveOriginatorApplicationEntityTitle", b"\xc5", "\\xc5"),
        ("ErrorComment", b"a\\b\xe9 ", "a\\b\\xe9"),
        ("ErrorComment", b"x" * 100, "x" * 100),
        ("Priority", b"\3\0", 0),
    ],
)
def test_values_as_peers_have_sent_them(keyword: str, raw: bytes, value: object) -> None:
    command_set = encode_command(full_message(Command.C_STORE_RQ)) + element(keyword, raw)
    message = decode_command(command_set)
    assert getattr(message, keyword) == value
    if ELEMENTS[keyword].vr == "UI":
        assert type(getattr(message, keyword)) is UID


@pytest.mark.parametrize("kind", [0x0000, 0x0001, 0x0100, 0x0102, 0xFFFF])
def test_any_other_data_set_type_announces_a_dataset(kind: int) -> None:
    raw = struct.pack("<H", kind)
    assert decode_command(with_value(Command.C_FIND_RQ, "CommandDataSetType", raw)).has_dataset


# -- receiving: anything ------------------------------------------------------------------------


@every_command
def test_truncated_command_sets(command: Command) -> None:
    command_set = encode_command(full_message(command))
    for length in range(len(command_set)):
        try:
            message = decode_command(command_set[:length])
        except RemoteProtocolError:
            continue
        assert message.command is command  # cut after an element, and only optional ones lost


def check_anything(command_set: bytes) -> None:
    """It is refused as a fault of the peer, or it is a message that can be sent."""
    try:
        message = decode_command(command_set)
    except RemoteProtocolError:
        return
    for field in fields(Message):
        value = getattr(message, field.name)
        if value is not None and ELEMENTS.get(field.name, ("", ""))[1] == "AE":
            # What no title may have is let pass when it is received, and not when it is sent.
            setattr(message, field.name, re.sub(r"[^ -\[\]-~]", "x", value)[:16] or "x")
    if not message.unusable:
        assert decode_command(encode_command(message)).command is message.command


@given(st.data())
def test_mutated_command_sets(data: st.DataObject) -> None:
    command_set = bytearray(encode_command(full_message(data.draw(st.sampled_from(Command)))))
    for _ in range(data.draw(st.integers(1, 4))):
        command_set[data.draw(st.integers(0, len(command_set) - 1))] = data.draw(
            st.integers(0, 255)
        )
    check_anything(bytes(command_set))


@given(st.lists(st.tuples(st.sampled_from(sorted(ELEMENTS)), st.binary(max_size=70))))
def test_arbitrary_elements(elements: list[tuple[str, bytes]]) -> None:
    check_anything(b"".join(element(keyword, value) for keyword, value in elements))


@given(st.binary())
def test_arbitrary_bytes(command_set: bytes) -> None:
    check_anything(command_set)


def test_as_many_elements_as_fit() -> None:
    message = full_message(Command.N_GET_RQ)
    stray = struct.pack("<HHI", 0, 0x0903, 0) * (256 * 1024 // 8)
    assert decode_command(stray + encode_command(message)) == message

    message.AttributeIdentifierList = [BaseTag(number) for number in range(64 * 1024)]
    assert decode_command(encode_command(message)) == message


@pytest.mark.parametrize("raw", [b"\0" * 64, b" "], ids=["NUL", "space"])
def test_a_uid_of_padding_alone_is_absent(raw: bytes) -> None:
    command_set = with_value(Command.C_ECHO_RQ, "AffectedSOPClassUID", raw)
    assert decode_command(command_set).unusable == ("AffectedSOPClassUID",)
