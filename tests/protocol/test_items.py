"""User information items: bytes by hand, round trips, and every kind of damage."""

from __future__ import annotations

import pytest
from hypothesis import given
from pydicom.uid import UID
from strategies import (
    counted,
    damaged,
    decoded_or_refused,
    item,
    request_user_information,
    truncations,
    user_items,
    wrong_lengths,
)

from dicomwire.errors import RemoteProtocolError
from dicomwire.protocol.context import quick_uid
from dicomwire.protocol.items import (
    DEFAULT_MAX_LENGTH,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
    decode_items,
    decode_text,
    decode_uid,
    decode_user_information,
    encode_item,
    encode_text,
    encode_uid,
)
from dicomwire.protocol.limits import Limits

CT = quick_uid("1.2.840.10008.5.1.4.1.1.2")
STORAGE = quick_uid("1.2.840.10008.4.2")
ENHANCED_SR = quick_uid("1.2.840.10008.5.1.4.1.1.88.22")


LIMITS = Limits()


def decode(data: bytes, limits: Limits = LIMITS, **options):
    return decode_user_information(memoryview(data), limits, **options)


EXAMPLES = [
    (MaximumLengthNotification(), bytes.fromhex("51 00 0004 00003ffe")),
    (MaximumLengthNotification(0), bytes.fromhex("51 00 0004 00000000")),
    (ImplementationClassUIDNotification(UID("1.2.3")), b"\x52\0\0\x051.2.3"),
    (AsynchronousOperationsWindowNegotiation(), bytes.fromhex("53 00 0004 0001 0001")),
    (AsynchronousOperationsWindowNegotiation(0, 500), bytes.fromhex("53 00 0004 0000 01f4")),
    (
        SCP_SCU_RoleSelectionNegotiation(CT, False, True),
        b"\x54\0\0\x1d\0\x19" + CT.encode() + b"\0\1",
    ),
    (ImplementationVersionNameNotification("WIRE_1"), b"\x55\0\0\x06WIRE_1"),
    (
        SOPClassExtendedNegotiation(CT, b"\2\0\1"),
        b"\x56\0\0\x1e\0\x19" + CT.encode() + b"\2\0\1",
    ),
    (
        SOPClassCommonExtendedNegotiation(CT, STORAGE, [ENHANCED_SR]),
        b"\x57\0\0\x4f\0\x19"
        + CT.encode()
        + b"\0\x11"
        + STORAGE.encode()
        + b"\0\x1f\0\x1d"
        + ENHANCED_SR.encode(),
    ),
    (
        UserIdentityNegotiation(2, True, b"user", b"pass"),
        b"\x58\0\0\x0e\2\1\0\4user\0\4pass",
    ),
    (UserIdentityNegotiation(3, False, b"ticket", b""), b"\x58\0\0\x0c\3\0\0\6ticket\0\0"),
    (UserIdentityNegotiation(server_response=b"yes"), b"\x59\0\0\x05\0\3yes"),
]
BY_NAME = pytest.mark.parametrize(
    ("value", "data"), EXAMPLES, ids=[f"{data[0]:02X}H" for _, data in EXAMPLES]
)


@BY_NAME
def test_encoded_as_the_standard_says(value, data):
    assert value.encode() == data


@BY_NAME
def test_decoded_as_the_standard_says(value, data):
    assert decode(data) == [value]


@BY_NAME
def test_truncated(value, data):
    assert decode(data[:0]) == []
    for part in list(truncations(data))[1:]:
        with pytest.raises(RemoteProtocolError):
            decode(part)


@BY_NAME
def test_value_truncated_with_a_length_that_agrees(value, data):
    """A short value is refused where the item has a form, and is only shorter text elsewhere."""
    free = isinstance(
        value, ImplementationClassUIDNotification | ImplementationVersionNameNotification
    )
    for part in truncations(data[4:]):
        whole = item(data[0], part)
        if free or (data[0] == 0x56 and len(part) >= 27):
            assert len(decode(whole)) == 1
        else:
            with pytest.raises(RemoteProtocolError):
                decode(whole)


@BY_NAME
def test_wrong_item_length(value, data):
    for wrong in wrong_lengths(data, 2):
        with pytest.raises(RemoteProtocolError):
            decode(wrong)


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (data, offset)
        for data, offsets in [
            (EXAMPLES[5][1], [4]),
            (EXAMPLES[7][1], [4]),
            (EXAMPLES[8][1], [4, 31, 50, 52]),
            (EXAMPLES[9][1], [6, 12]),
            (EXAMPLES[11][1], [4]),
        ]
        for offset in offsets
    ],
)
def test_wrong_inner_length(data, offset):
    for wrong in wrong_lengths(data, offset):
        decoded_or_refused(decode, wrong)


@given(user_items)
def test_round_trip(value):
    assert decode(value.encode()) == [value]


@given(request_user_information)
def test_round_trip_of_many(values):
    assert decode(b"".join(value.encode() for value in values)) == values


@given(damaged(user_items.map(lambda item: item.encode())))
def test_damage_is_a_protocol_error_or_nothing(data):
    decoded_or_refused(decode, data)


class TestLeniency:
    def test_unknown_sub_items_are_passed_over(self):
        known = EXAMPLES[0][1]
        assert decode(item(0x5A, b"new") + known + item(0xFF)) == [MaximumLengthNotification()]

    def test_of_what_may_occur_once_the_first_counts(self):
        data = b"".join(
            value.encode()
            for value in (
                MaximumLengthNotification(1),
                MaximumLengthNotification(2),
                SCP_SCU_RoleSelectionNegotiation(CT, True, False),
                SCP_SCU_RoleSelectionNegotiation(STORAGE, True, True),
                SCP_SCU_RoleSelectionNegotiation(CT, True, True),
                SOPClassExtendedNegotiation(CT, b"\1"),
            )
        )
        assert decode(data) == [
            MaximumLengthNotification(1),
            SCP_SCU_RoleSelectionNegotiation(CT, True, False),
            SCP_SCU_RoleSelectionNegotiation(STORAGE, True, True),
            SOPClassExtendedNegotiation(CT, b"\1"),
        ]

    def test_padding_and_empty_values(self):
        data = item(0x52, b"1.2.3\0") + item(0x55, b" NAME \0") + item(0x54, counted(b"") + b"\1\0")
        assert decode(data) == [
            ImplementationClassUIDNotification(quick_uid("1.2.3")),
            ImplementationVersionNameNotification("NAME"),
            SCP_SCU_RoleSelectionNegotiation(quick_uid(""), True, False),
        ]

    def test_long_version_name(self):
        name = "a name of more than sixteen characters"
        (value,) = decode(item(0x55, name.encode()))
        assert value.implementation_version_name == name

    def test_fields_of_a_later_version_of_common_extended(self):
        value, data = EXAMPLES[8]
        later = bytes((0x57, 1)) + counted(data[4:] + b"new field")
        assert decode(later) == [value]

    def test_undefined_identity_type_and_flags(self):
        (value,) = decode(item(0x58, b"\x09\x02" + counted(b"x") + counted(b"")))
        assert (value.user_identity_type, value.positive_response_requested) == (9, False)

    def test_codecs(self):
        data = item(0x55, "é".encode())
        assert decode(data)[0].implementation_version_name == "\\xc3\\xa9"
        assert decode(data, codecs=("ascii", "utf-8"))[0].implementation_version_name == "é"

    @pytest.mark.parametrize("uid", [b"1" * 65, b"1.2.\xe9", b"1" * 0xFF00])
    def test_uid_that_is_too_long_or_not_ascii_names_nothing(self, uid):
        assert decode(item(0x52, uid) + item(0x54, counted(uid)[:0xFFF0] + b"\1\0"))[:1] == [
            ImplementationClassUIDNotification(quick_uid(""))
        ]


class TestRefused:
    @pytest.mark.parametrize("item_type", [0x51, 0x53, 0x54, 0x58, 0x59])
    def test_bytes_too_many(self, item_type):
        (data,) = {data[0]: data for _, data in EXAMPLES if data[0] == item_type}.values()
        with pytest.raises(RemoteProtocolError, match="too many"):
            decode(item(item_type, data[4:] + b"\0"))

    def test_too_many_items_known_or_not(self):
        limits = Limits(items=3)
        three = item(0x5A) + EXAMPLES[0][1] * 2
        assert len(decode(three, limits)) == 1
        with pytest.raises(RemoteProtocolError, match="more than 3 items"):
            decode(three + item(0x5A), limits)


class TestValidation:
    @pytest.mark.parametrize(
        "value",
        [
            MaximumLengthNotification(-1),
            MaximumLengthNotification(1 << 32),
            MaximumLengthNotification(None),
            ImplementationClassUIDNotification(),
            ImplementationClassUIDNotification(""),
            ImplementationClassUIDNotification("1" * 65),
            ImplementationVersionNameNotification(),
            ImplementationVersionNameNotification("n" * 17),
            ImplementationVersionNameNotification("  "),
            ImplementationVersionNameNotification("a\\b"),
            ImplementationVersionNameNotification("a\tb"),
            ImplementationVersionNameNotification("\x7f"),
            ImplementationVersionNameNotification("é"),
            AsynchronousOperationsWindowNegotiation(-1, 1),
            AsynchronousOperationsWindowNegotiation(1, 1 << 16),
            SCP_SCU_RoleSelectionNegotiation(),
            SOPClassExtendedNegotiation(),
            SOPClassExtendedNegotiation(CT),
            SOPClassExtendedNegotiation(CT, bytes(0xFFFF)),
            SOPClassCommonExtendedNegotiation(),
            SOPClassCommonExtendedNegotiation(CT),
            SOPClassCommonExtendedNegotiation(CT, STORAGE, [""]),
            SOPClassCommonExtendedNegotiation(CT, STORAGE, [CT] * 3000),
            UserIdentityNegotiation(),
            UserIdentityNegotiation(0, primary_field=b""),
            UserIdentityNegotiation(6, primary_field=b""),
            UserIdentityNegotiation(1),
            UserIdentityNegotiation(2, primary_field=b"user"),
            UserIdentityNegotiation(1, primary_field=bytes(1 << 16)),
            UserIdentityNegotiation(server_response=bytes(1 << 16)),
            UserIdentityNegotiation(server_response=bytes(0xFFFF)),
        ],
        ids=lambda value: repr(value)[:60],
    )
    def test_bad_values_are_not_sent(self, value):
        with pytest.raises(ValueError, match=r"."):
            value.encode()

    def test_types(self):
        with pytest.raises(TypeError, match="is a str"):
            ImplementationVersionNameNotification(b"NAME").encode()
        with pytest.raises(TypeError, match="sop_class_uid"):
            SCP_SCU_RoleSelectionNegotiation(5, True).encode()

    def test_made_without_arguments(self):
        assert MaximumLengthNotification().maximum_length_received == DEFAULT_MAX_LENGTH == 16382
        assert SOPClassCommonExtendedNegotiation().related_general_sop_class_identification == []

    def test_text_becomes_a_uid_when_it_is_sent(self):
        assert SCP_SCU_RoleSelectionNegotiation("1.2", True).encode() == item(
            0x54, counted(b"1.2") + b"\1\0"
        )

    def test_an_empty_passcode_must_be_meant(self):
        value = UserIdentityNegotiation(2, False, b"user", b"")
        assert decode(value.encode()) == [value]

    def test_secrets_are_not_shown(self):
        value = UserIdentityNegotiation(2, True, b"user", b"pass", b"answer")
        assert repr(value) == (
            "UserIdentityNegotiation(user_identity_type=2, positive_response_requested=True)"
        )

    def test_a_misspelt_attribute_is_an_error(self):
        with pytest.raises(AttributeError):
            MaximumLengthNotification().maximum_length = 5


class TestCommon:
    def test_item_of_the_greatest_length(self):
        assert encode_item(0x10, bytes(0xFFFF))[:4] == b"\x10\0\xff\xff"
        with pytest.raises(ValueError, match="item 10H: 65536 bytes"):
            encode_item(0x10, bytes(0x10000))

    def test_items_one_by_one(self):
        found = decode_items(memoryview(item(1, b"a") + item(2) + b"\3\0"), 10, "test")
        assert next(found) == (1, b"a")
        assert next(found) == (2, b"")
        with pytest.raises(RemoteProtocolError):
            next(found)

    def test_uid(self):
        assert encode_uid("1.2 ", "x") == b"1.2"
        with pytest.raises(ValueError, match="x is not set"):
            encode_uid(None, "x")
        uid = decode_uid(memoryview(b"1.02.no \0"))  # pydicom would warn
        assert type(uid) is UID
        assert uid == "1.02.no"

    @pytest.mark.parametrize(
        ("raw", "text"),
        [
            (b"NAME", "NAME"),
            (b" NAME   ", "NAME"),
            (b"NAME\0\0\0\0", "NAME"),
            (b"        ", ""),
            (b"\0\0", ""),
            (b"TWO WORDS ", "TWO WORDS"),
            (b"\xc9COLE ", "\\xc9COLE"),
        ],
    )
    def test_text_is_decoded_whatever_it_is(self, raw, text):
        assert decode_text(memoryview(raw), ("ascii",)) == text

    def test_text_by_the_first_codec_that_fits(self):
        raw = memoryview("名前".encode("shift_jis"))
        assert decode_text(raw, ("ascii", "utf-8", "shift_jis")) == "名前"
        assert decode_text(raw, ()).startswith("\\x")

    def test_text_is_encoded_without_padding(self):
        assert encode_text(" A B", "x") == b" A B"
