"""PDUs: bytes by hand, round trips, every kind of damage, and what a hostile request may cost."""

from __future__ import annotations

import struct
import time
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom.uid import UID
from strategies import (
    associate_answers,
    associate_requests,
    counted,
    damaged,
    decoded_or_refused,
    item,
    pdus,
    truncations,
    wrong_lengths,
)

from dicomwire.errors import AbortReason, AbortSource, RemoteProtocolError
from dicomwire.protocol.context import PresentationContext, Result, quick_uid
from dicomwire.protocol.items import (
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    UserIdentityNegotiation,
)
from dicomwire.protocol.limits import MIB, Limits
from dicomwire.protocol.pdu import (
    APPLICATION_CONTEXT_NAME,
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    PDataTF,
    PDUType,
    Rejection,
    ReleaseRP,
    ReleaseRQ,
    decode_pdu,
)

APPLICATION = b"1.2.840.10008.3.1.1.1"
VERIFICATION = b"1.2.840.10008.1.1"
IMPLICIT = b"1.2.840.10008.1.2"
EXPLICIT = b"1.2.840.10008.1.2.1"

APPLICATION_ITEM = item(0x10, APPLICATION)
ABSTRACT = item(0x30, VERIFICATION)
TRANSFER = item(0x40, IMPLICIT)
MAXIMUM = bytes.fromhex("51 00 0004 00004000")
USER = item(0x50, MAXIMUM)


def proposal(context_id: int = 1, *sub_items: bytes) -> bytes:
    return item(0x20, bytes((context_id, 0, 0, 0)) + b"".join(sub_items or (ABSTRACT, TRANSFER)))


def answer(context_id: int, result: int, *sub_items: bytes) -> bytes:
    return item(0x21, bytes((context_id, 0xAA, result, 0xAA)) + b"".join(sub_items))


def associate_body(
    *items: bytes,
    called: bytes = b"STORE           ",
    calling: bytes = b"MODALITY        ",
    reserved: bytes = bytes(32),
    version: int = 1,
) -> bytes:
    return struct.pack(">HH", version, 0) + called + calling + reserved + b"".join(items)


def request(*items: bytes, limits: Limits | None = None, **fields) -> AssociateRQ:
    return AssociateRQ.decode(associate_body(*items, **fields), limits or Limits())


def accept(*items: bytes, **fields) -> AssociateAC:
    return AssociateAC.decode(associate_body(*items, **fields))


def whole(pdu_type: int, body: bytes) -> bytes:
    return struct.pack(">BxI", pdu_type, len(body)) + body


def decode(data: bytes, limits: Limits = Limits()):  # noqa: B008 (frozen)
    """Decode a whole PDU, header and all."""
    return decode_pdu(data[0], memoryview(data)[6:], limits)


REQUEST_BODY = associate_body(
    APPLICATION_ITEM,
    proposal(1, ABSTRACT, TRANSFER, item(0x40, EXPLICIT)),
    proposal(3, item(0x30, b"1.2.3"), TRANSFER),
    item(
        0x50,
        MAXIMUM
        + item(0x52, b"1.2.3.4")
        + item(0x54, counted(b"1.2.3") + b"\0\1")
        + item(0x55, b"WIRE_1"),
    ),
)
REQUEST = AssociateRQ(
    called_ae_title="STORE",
    calling_ae_title="MODALITY",
    presentation_contexts=[
        PresentationContext.from_wire(
            1,
            quick_uid("1.2.840.10008.1.1"),
            [quick_uid("1.2.840.10008.1.2"), quick_uid("1.2.840.10008.1.2.1")],
        ),
        PresentationContext.from_wire(3, quick_uid("1.2.3"), [quick_uid("1.2.840.10008.1.2")]),
    ],
    user_information=[
        MaximumLengthNotification(16384),
        ImplementationClassUIDNotification(quick_uid("1.2.3.4")),
        SCP_SCU_RoleSelectionNegotiation(quick_uid("1.2.3"), False, True),
        ImplementationVersionNameNotification("WIRE_1"),
    ],
)
ANSWER = AssociateAC(
    called_ae_title="STORE",
    calling_ae_title="MODALITY",
    presentation_contexts=[
        PresentationContext.from_wire(1, None, [quick_uid("1.2.840.10008.1.2")], Result.ACCEPTANCE),
        PresentationContext.from_wire(3, None, [], Result.ABSTRACT_SYNTAX_NOT_SUPPORTED),
    ],
    user_information=[MaximumLengthNotification(16384)],
)
ANSWER_BODY = associate_body(
    APPLICATION_ITEM,
    item(0x21, b"\1\0\0\0" + TRANSFER),
    item(0x21, b"\3\0\3\0" + item(0x40)),
    USER,
)

EXAMPLES = [
    (REQUEST, whole(1, REQUEST_BODY)),
    (ANSWER, whole(2, ANSWER_BODY)),
    (AssociateRJ(1, 2, 2), bytes.fromhex("03 00 00000004 00 01 02 02")),
    (
        PDataTF([(1, 3, b"command"), (3, 0, b"")]),
        bytes.fromhex("04 00 00000013 00000009 01 03")
        + b"command"
        + bytes.fromhex("00000002 0300"),
    ),
    (ReleaseRQ(), bytes.fromhex("05 00 00000004 00000000")),
    (ReleaseRP(), bytes.fromhex("06 00 00000004 00000000")),
    (Abort(2, 6), bytes.fromhex("07 00 00000004 0000 02 06")),
]
BY_TYPE = pytest.mark.parametrize(
    ("value", "data"), EXAMPLES, ids=[type(value).__name__ for value, _ in EXAMPLES]
)


@BY_TYPE
def test_encoded_as_the_standard_says(value, data):
    assert value.encode() == data
    assert value.pdu_type == data[0]


@BY_TYPE
def test_decoded_as_the_standard_says(value, data):
    assert decode(data) == value
    assert type(value).decode(data[6:]) == value
    assert PDUType(data[0]) is value.pdu_type


@BY_TYPE
def test_truncated(value, data):
    # An associate PDU may end between two items: all of them after the titles may be missing.
    boundaries = {68}
    if data[0] in (1, 2):
        at = 68
        while at < len(data) - 6:
            at += 4 + int.from_bytes(data[at + 8 : at + 10], "big")
            boundaries.add(at)
    elif data[0] == 4:
        boundaries = {13}
    else:
        boundaries = set()
    for body in truncations(data[6:]):
        if len(body) in boundaries:
            decode_pdu(data[0], body)
        else:
            with pytest.raises(RemoteProtocolError):
                decode_pdu(data[0], body)


@given(pdus)
def test_round_trip(value):
    data = value.encode()
    assert int.from_bytes(data[2:6], "big") == len(data) - 6
    assert decode(data) == value


@given(pdus)
def test_truncated_anywhere(value):
    data = value.encode()
    for body in truncations(data[6:]):
        decoded_or_refused(lambda body: decode_pdu(data[0], body), body)


@given(st.integers(1, 7), damaged(pdus.map(lambda value: value.encode()[6:])))
@example(1, REQUEST_BODY)
@example(2, REQUEST_BODY)
@example(1, ANSWER_BODY)
def test_damage_is_a_protocol_error_or_nothing(pdu_type, body):
    decoded_or_refused(lambda body: decode_pdu(pdu_type, body), body)


@given(st.integers(1, 7), st.binary(max_size=200))
def test_noise_is_a_protocol_error_or_nothing(pdu_type, body):
    decoded_or_refused(lambda body: decode_pdu(pdu_type, body), body)


def length_fields(body: bytes) -> list[int]:
    """Offsets of the lengths of the items in an associate PDU, and of those inside of them."""
    found = []

    def walk(start: int, end: int) -> None:
        while start < end:
            found.append(start + 2)
            size = int.from_bytes(body[start + 2 : start + 4], "big")
            value = start + 4
            if body[start] in (0x20, 0x21):
                walk(value + 4, value + size)
            elif body[start] == 0x50:
                walk(value, value + size)
            elif body[start] in (0x54, 0x59):
                found.append(value)
            start = value + size

    walk(68, len(body))
    return found


@pytest.mark.parametrize(("pdu_type", "body"), [(1, REQUEST_BODY), (2, ANSWER_BODY)])
def test_wrong_item_lengths(pdu_type, body):
    offsets = length_fields(body)
    assert len(offsets) == {1: 14, 2: 7}[pdu_type]
    for offset in offsets:
        for wrong in wrong_lengths(body, offset):
            decoded_or_refused(lambda body: decode_pdu(pdu_type, body), wrong)


@given(associate_requests | associate_answers)
def test_wrong_lengths_anywhere(value):
    body = value.encode()[6:]
    for offset in length_fields(body):
        for wrong in wrong_lengths(body, offset):
            decoded_or_refused(type(value).decode, wrong)


@pytest.mark.parametrize("offset", [0, 13])
def test_wrong_lengths_of_data_values(offset):
    body = EXAMPLES[3][1][6:]
    for wrong in wrong_lengths(body, offset, 4):
        with pytest.raises(RemoteProtocolError):
            PDataTF.decode(wrong)


@pytest.mark.parametrize("pdu_type", [0, 8, 0x16, 0x47, 0xFF])
def test_unknown_type(pdu_type):
    with pytest.raises(RemoteProtocolError, match="unknown PDU type") as caught:
        decode_pdu(pdu_type, b"\0\0\0\0")
    assert caught.value.reason is AbortReason.UNRECOGNIZED_PDU


@pytest.mark.parametrize("pdu_type", [3, 5, 6, 7])
@pytest.mark.parametrize("size", [0, 3, 5, 8])
def test_fixed_size(pdu_type, size):
    with pytest.raises(RemoteProtocolError) as caught:
        decode_pdu(pdu_type, bytes(size))
    assert caught.value.reason is AbortReason.INVALID_PDU_PARAMETER


@pytest.mark.parametrize("pdu_type", [5, 6])
def test_reserved_bytes_are_not_tested(pdu_type):
    assert decode_pdu(pdu_type, b"\xff\xff\xff\xff").pdu_type == pdu_type


class TestTitles:
    @pytest.mark.parametrize(
        ("raw", "title"),
        [
            (b"MODALITY        ", "MODALITY"),
            (b"  MODALITY      ", "MODALITY"),
            (b"MODALITY\0\0\0\0\0\0\0\0", "MODALITY"),
            (b"SIXTEEN_LETTERS_", "SIXTEEN_LETTERS_"),
            (b"CT 1 ROOM 2     ", "CT 1 ROOM 2"),
            (b" " * 16, ""),
            (bytes(16), ""),
            (b"R\xc3\xb6ntgen 1      ", "R\\xc3\\xb6ntgen 1"),
            (b"\xff" * 16, "\\xff" * 16),
        ],
    )
    def test_of_any_kind_are_read(self, raw, title):
        pdu = request(called=raw, calling=raw)
        assert pdu.called_ae_title == pdu.calling_ae_title == title
        back = AssociateAC.answering(pdu, [], []).encode()
        assert back[10:42] == raw * 2  # whatever was made of it, the answer repeats the bytes

    def test_by_codec(self):
        body = associate_body(calling="Röntgen".encode().ljust(16))
        assert decode_pdu(1, body, Limits(), ("utf-8",)).calling_ae_title == "Röntgen"

    @pytest.mark.parametrize("title", ["", " ", "x" * 17, "é", "A\\B", "A\nB", "A\0"])
    @pytest.mark.parametrize("field", ["called_ae_title", "calling_ae_title"])
    def test_bad_ones_are_not_sent(self, field, title):
        pdu = AssociateRQ(called_ae_title="A", calling_ae_title="B")
        setattr(pdu, field, title)
        with pytest.raises(ValueError, match=field):
            pdu.encode()

    def test_an_answer_takes_any(self):
        pdu = AssociateAC(called_ae_title="é" * 20, calling_ae_title="")
        assert pdu.encode()[10:74] == b"?" * 16 + b" " * 16 + bytes(32)

    def test_an_answer_repeats_reserved_bytes(self):
        reserved = bytes(range(32))
        pdu = AssociateAC.answering(request(reserved=reserved), [], [MaximumLengthNotification()])
        assert (pdu.called_ae_title, pdu.calling_ae_title) == ("STORE", "MODALITY")
        assert pdu.encode()[42:74] == reserved


class TestRequest:
    @pytest.mark.parametrize("version", [0, 1, 2, 3, 0xFFFF])
    def test_protocol_version_is_as_it_came(self, version):
        assert request(version=version).protocol_version == version

    def test_user_item(self):
        assert REQUEST.user_item(MaximumLengthNotification) == MaximumLengthNotification(16384)
        assert REQUEST.user_item(UserIdentityNegotiation) is None

    def test_all_items_may_be_missing(self):
        assert request() == AssociateRQ(
            called_ae_title="STORE",
            calling_ae_title="MODALITY",
            application_context_name=quick_uid(""),
        )

    def test_any_order_and_unknown_items(self):
        pdu = request(
            item(0x99, b"?"), USER, proposal(3), item(0x11), proposal(1), APPLICATION_ITEM
        )
        assert pdu.application_context_name == APPLICATION_CONTEXT_NAME
        assert [context.context_id for context in pdu.presentation_contexts] == [3, 1]
        assert pdu.user_information == [MaximumLengthNotification(16384)]

    def test_the_first_of_what_should_occur_once(self):
        pdu = request(
            APPLICATION_ITEM,
            item(0x10, b"1.2.3"),
            proposal(1),
            item(0x50),
            USER,
        )
        assert pdu.application_context_name == APPLICATION_CONTEXT_NAME
        assert pdu.user_information == []

    def test_answered_contexts_have_no_place_in_a_request(self):
        assert request(answer(1, 0, TRANSFER)).presentation_contexts == []

    def test_contents_of_a_context(self):
        pdu = request(
            proposal(
                5,
                TRANSFER,
                item(0x77, b"unknown"),
                ABSTRACT,
                item(0x40),
                item(0x40, EXPLICIT + b"\0"),
                item(0x30, b"1.2.3"),
                TRANSFER,
            )
        )
        (context,) = pdu.presentation_contexts
        assert (context.context_id, context.result) == (5, None)
        assert context.abstract_syntax == "1.2.840.10008.1.1"
        assert context.transfer_syntax == ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"]

    def test_context_without_transfer_syntax(self):
        (context,) = request(proposal(1, ABSTRACT)).presentation_contexts
        assert context.transfer_syntax == []

    @pytest.mark.parametrize(
        "abstract", [b"", item(0x30), item(0x30, b"1" * 65), item(0x30, b"1.2.\xe4")]
    )
    def test_context_without_a_readable_abstract_syntax_is_rejected(self, abstract):
        bad, good = request(
            proposal(1, abstract, TRANSFER), proposal(3, ABSTRACT, TRANSFER)
        ).presentation_contexts
        assert (bad.context_id, bad.abstract_syntax, bad.result) == (1, None, 3)
        assert good.result is None

    @pytest.mark.parametrize("context_id", [0, 2, 254])
    def test_context_with_an_even_id_is_rejected(self, context_id):
        bad, good = request(proposal(context_id, ABSTRACT), proposal(1)).presentation_contexts
        assert (bad.context_id, bad.result) == (context_id, 2)
        assert good.result is None

    def test_contexts_with_the_same_id_are_rejected_in_one(self):
        bad, good = request(proposal(1), proposal(3), proposal(1)).presentation_contexts
        assert (bad.context_id, bad.result) == (1, 2)
        assert good.result is None

    @pytest.mark.parametrize("uid", [b"1" * 65, b"1.\xff"])
    def test_a_transfer_syntax_that_cannot_be_read_is_passed_over(self, uid):
        (context,) = request(proposal(1, ABSTRACT, item(0x40, uid), TRANSFER)).presentation_contexts
        assert (context.transfer_syntax, context.result) == (["1.2.840.10008.1.2"], None)

    @pytest.mark.parametrize("uid", [b"1" * 65, b"1.\xff"])
    def test_an_application_context_that_cannot_be_read_is_none(self, uid):
        assert request(item(0x10, uid)).application_context_name == ""

    def test_unknown_and_odd_uids_pass_in_silence(self, caplog):
        pdu = request(proposal(1, item(0x30, b"1.02.x"), item(0x40, VERIFICATION)))
        assert pdu.presentation_contexts[0].abstract_syntax == "1.02.x"
        assert type(pdu.presentation_contexts[0].abstract_syntax) is UID
        assert not caplog.records

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"protocol_version": 1 << 16}, "protocol_version"),
            ({"protocol_version": -1}, "protocol_version"),
            ({"application_context_name": quick_uid("")}, "application_context_name"),
            ({"presentation_contexts": [PresentationContext()]}, "no context_id"),
            (
                {"presentation_contexts": [PresentationContext.from_wire(1, None, ["1.2"])]},
                "abstract_syntax is not set",
            ),
            (
                {"presentation_contexts": [PresentationContext.from_wire(1, "1.2", [])]},
                "no transfer syntax",
            ),
            (
                {"presentation_contexts": [PresentationContext.from_wire(1, "1.2", ["1.2"])] * 2},
                "the same context_id",
            ),
            (
                {"user_information": [SCP_SCU_RoleSelectionNegotiation("1.2", False)]},
                "neither SCU nor SCP role is proposed for 1.2",
            ),
            (
                {"user_information": [UserIdentityNegotiation(1, primary_field=bytes(0xFFF8))] * 2},
                "do not fit into an item",
            ),
        ],
    )
    def test_bad_values_are_not_sent(self, change, text):
        pdu = AssociateRQ(called_ae_title="A", calling_ae_title="B", **change)
        with pytest.raises(ValueError, match=text):
            pdu.encode()


class TestAnswer:
    def test_transfer_syntax_of_a_rejected_context_is_not_read(self):
        pdu = accept(
            answer(1, 1),
            answer(3, 2, b"garbage that is no item"),
            answer(5, 3, item(0x40, b"\xff" * 100)),
            answer(7, 4, TRANSFER),
            answer(9, 200, TRANSFER),
        )
        assert [(c.context_id, c.result) for c in pdu.presentation_contexts] == [
            (1, 1),
            (3, 2),
            (5, 3),
            (7, 4),
            (9, 200),
        ]
        assert all(context.transfer_syntax == [] for context in pdu.presentation_contexts)

    def test_an_accepted_context(self):
        pdu = accept(answer(1, 0, item(0x99), item(0x40), TRANSFER, item(0x40, EXPLICIT)))
        (context,) = pdu.presentation_contexts
        assert (context.result, context.abstract_syntax) == (0, None)
        assert context.transfer_syntax == ["1.2.840.10008.1.2"]

    @pytest.mark.parametrize("sub_items", [(), (item(0x40),), (ABSTRACT,), (item(0x40, b"\xe4"),)])
    def test_accepted_in_no_transfer_syntax(self, sub_items):
        (context,) = accept(answer(1, 0, *sub_items)).presentation_contexts
        assert (context.result, context.transfer_syntax) == (0, [])

    def test_the_first_of_several_answers_counts(self):
        (context,) = accept(answer(1, 0, TRANSFER), answer(1, 3)).presentation_contexts
        assert context.result == 0

    def test_an_answer_with_an_even_id_is_read(self):
        (context,) = accept(answer(2, 3)).presentation_contexts
        assert (context.context_id, context.result) == (2, 3)

    def test_a_rejected_context_may_name_a_transfer_syntax(self):
        context = PresentationContext.from_wire(1, None, [quick_uid("1.2")], 4)
        data = AssociateAC(presentation_contexts=[context]).encode()
        assert item(0x21, b"\1\0\4\0" + item(0x40, b"1.2")) in data

    def test_a_role_may_be_refused(self):
        refused = SCP_SCU_RoleSelectionNegotiation(quick_uid("1.2"), False, False)
        data = AssociateAC(user_information=[refused]).encode()
        assert decode(data).user_information == [refused]

    @pytest.mark.parametrize(
        ("context", "text"),
        [
            (PresentationContext.from_wire(None, None, [], 3), "no context_id"),
            (PresentationContext.from_wire(1, None, ["1.2"]), "no result"),
            (PresentationContext.from_wire(1, None, [], 0), "without a transfer syntax"),
            (PresentationContext.from_wire(1, None, [], 256), "byte"),
        ],
    )
    def test_bad_values_are_not_sent(self, context, text):
        with pytest.raises(ValueError, match=text):
            AssociateAC(presentation_contexts=[context]).encode()


class TestLimits:
    def test_contexts(self):
        contexts = [proposal(context_id) for context_id in range(1, 257, 2)]
        assert len(request(*contexts).presentation_contexts) == 128
        with pytest.raises(RemoteProtocolError, match="more than 128 contexts"):
            request(*contexts, proposal(1))

    def test_contexts_of_an_answer(self):
        with pytest.raises(RemoteProtocolError, match="more than 128 contexts"):
            accept(*[answer(1, 3)] * 129)

    def test_transfer_syntaxes(self):
        limits = Limits(transfer_syntaxes=2)
        two = [ABSTRACT, TRANSFER, item(0x40, EXPLICIT)]
        assert len(request(proposal(1, *two), limits=limits).presentation_contexts) == 1
        with pytest.raises(RemoteProtocolError, match="context 1: more than 3 items"):
            request(proposal(1, *two, TRANSFER), limits=limits)

    def test_items(self):
        limits = Limits(items=2)
        assert request(USER, APPLICATION_ITEM, limits=limits).user_information
        with pytest.raises(RemoteProtocolError, match="ASSOCIATE_RQ: more than 2 items"):
            request(USER, APPLICATION_ITEM, item(0x99), limits=limits)

    @pytest.mark.parametrize(
        "items",
        [
            item(0x99) * (MIB // 4),
            item(0x20) * (MIB // 4),
            proposal(1) * (MIB // len(proposal(1))),
            proposal(1, ABSTRACT, item(0x40) * 16000) * 16,
            item(0x50, MAXIMUM * 8000) * 16,
            item(0x50, item(0x99) * 16000) * 16,
            proposal(1, ABSTRACT, item(0x40, b"1" * 65)) * 10000,
        ],
        ids=["unknown", "empty", "contexts", "syntaxes", "known", "unknown-user", "uids"],
    )
    def test_a_megabyte_of_items_is_refused_cheaply(self, items):
        body = associate_body(items)
        tracemalloc.start()
        began = time.process_time()
        with pytest.raises(RemoteProtocolError) as caught:
            AssociateRQ.decode(body)
        spent = time.process_time() - began
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert caught.value.reason is AbortReason.INVALID_PDU_PARAMETER
        assert spent < 1  # about 10 ms, on an idle machine and untraced
        assert peak < MIB

    def test_the_largest_request_is_read_in_bounded_memory(self):
        syntaxes = b"".join(item(0x40, b"1.2.%d" % number) for number in range(256))
        related = item(0x57, counted(b"1.2") * 2 + counted(bytes(2 * 30000)))
        body = associate_body(
            *(proposal(context_id, ABSTRACT, syntaxes) for context_id in range(1, 257, 2)),
            item(0x50, related),
        )
        tracemalloc.start()
        pdu = AssociateRQ.decode(body)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(pdu.presentation_contexts) == 128
        assert peak < 16 * MIB


class TestReject:
    @pytest.mark.parametrize(
        ("rejection", "words"),
        [
            (
                Rejection.APPLICATION_CONTEXT_NOT_SUPPORTED,
                ("Permanent", "User", "Application context name not supported"),
            ),
            (
                Rejection.CALLING_AE_TITLE_NOT_RECOGNIZED,
                ("Permanent", "User", "Calling AE title not recognised"),
            ),
            (
                Rejection.CALLED_AE_TITLE_NOT_RECOGNIZED,
                ("Permanent", "User", "Called AE title not recognised"),
            ),
            (
                Rejection.PROTOCOL_VERSION_NOT_SUPPORTED,
                ("Permanent", "Provider (ACSE)", "Protocol version not supported"),
            ),
            (Rejection.NO_REASON_GIVEN, ("Transient", "Provider (ACSE)", "No reason given")),
            (
                Rejection.TEMPORARY_CONGESTION,
                ("Transient", "Provider (Presentation)", "Temporary congestion"),
            ),
            (
                Rejection.LOCAL_LIMIT_EXCEEDED,
                ("Transient", "Provider (Presentation)", "Local limit exceeded"),
            ),
        ],
    )
    def test_words(self, rejection, words):
        pdu = decode(AssociateRJ.because(rejection).encode())
        assert (pdu.result, pdu.source, pdu.diagnostic) == rejection.value
        assert pdu.result_str == f"Rejected {words[0]}"
        assert pdu.source_str == f"Service {words[1]}"
        assert pdu.reason_str == words[2]

    def test_by_code(self):
        pdu = AssociateRJ(2, 3, 2)
        assert pdu == AssociateRJ.because(Rejection.LOCAL_LIMIT_EXCEEDED)

    def test_undefined_codes(self):
        pdu = AssociateRJ.decode(b"\xff\x00\x09\x2a")
        assert (pdu.result_str, pdu.source_str, pdu.reason_str) == (
            "Unknown (0)",
            "Unknown (9)",
            "Unknown (42)",
        )

    def test_not_a_byte(self):
        with pytest.raises(ValueError, match="byte"):
            AssociateRJ(1, 1, 256).encode()


class TestAbort:
    @pytest.mark.parametrize("reason", AbortReason)
    def test_words(self, reason):
        pdu = Abort(AbortSource.SERVICE_PROVIDER, reason)
        assert pdu.source_str == "Service Provider"
        assert not pdu.reason_str.startswith("Unknown")

    def test_a_user_gives_no_reason(self):
        pdu = Abort.decode(b"\0\0\0\xff")
        assert (pdu.source_str, pdu.reason_str) == ("Service User", "No reason given")

    def test_undefined_codes(self):
        pdu = Abort.decode(b"\xff\xff\x01\x03")
        assert (pdu.source_str, pdu.reason_str) == ("Unknown (1)", "Unknown (3)")

    def test_not_a_byte(self):
        with pytest.raises(ValueError, match="byte"):
            Abort(0, -1).encode()


class TestData:
    def test_values_may_be_empty_but_not_missing(self):
        assert PDataTF.decode(bytes.fromhex("00000002 01 02")) == PDataTF([(1, 2, b"")])
        with pytest.raises(RemoteProtocolError):
            PDataTF.decode(b"")
        with pytest.raises(ValueError, match="at least one"):
            PDataTF().encode()

    def test_not_a_byte(self):
        with pytest.raises(ValueError, match="byte"):
            PDataTF([(256, 0, b"")]).encode()

    def test_data_are_not_shown(self):
        assert "SECRET" not in repr(PDataTF([(1, 2, b"SECRET")]))


# -- copies -------------------------------------------------------------------------------------


def test_a_copy_shares_no_object_that_can_be_changed():
    request = AssociateRQ(
        presentation_contexts=[
            PresentationContext.from_wire(1, quick_uid("1.2"), [quick_uid("1")])
        ],
        user_information=[
            MaximumLengthNotification(5),
            SOPClassCommonExtendedNegotiation(quick_uid("1.2"), quick_uid("1.3"), []),
        ],
    )
    copy = request.copied()
    assert copy == request
    copy.presentation_contexts[0].transfer_syntax.append(quick_uid("2"))
    copy.user_information[0].maximum_length_received = 6
    copy.user_information[1].related_general_sop_class_identification.append(quick_uid("3"))
    copy.user_information.clear()
    assert request.presentation_contexts[0].transfer_syntax == ["1"]
    assert request.user_information == [
        MaximumLengthNotification(5),
        SOPClassCommonExtendedNegotiation(quick_uid("1.2"), quick_uid("1.3"), []),
    ]
