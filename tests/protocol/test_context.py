"""Presentation contexts: what may be set, what is only warned of, what is compared and shown."""

from __future__ import annotations

import copy
import logging
import pickle

import pytest
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicomwire.protocol.context import (
    PresentationContext,
    PresentationContextTuple,
    Result,
    as_uid,
    quick_uid,
)

VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT = "1.2.840.10008.1.2"


def build(abstract_syntax: str = VERIFICATION, *transfer_syntaxes: str) -> PresentationContext:
    context = PresentationContext()
    context.abstract_syntax = abstract_syntax
    context.transfer_syntax = list(transfer_syntaxes or (IMPLICIT,))
    return context


class TestUID:
    def test_quick_uid_takes_anything_silently(self):
        uid = quick_uid("no UID at all")
        assert isinstance(uid, UID)
        assert uid == "no UID at all"

    @pytest.mark.parametrize("value", ["1.2.3", b"1.2.3", "1.2.3\0", b"1.2.3\0", " 1.2.3 "])
    def test_text_and_bytes_without_padding(self, value):
        uid = as_uid(value, "x")
        assert type(uid) is UID
        assert uid == "1.2.3"

    def test_a_uid_stays_the_same_object(self):
        private = quick_uid("1.2.3")
        private.set_private_encoding(False, True)
        assert as_uid(private, "x") is private
        assert as_uid(quick_uid("1.2.3 "), "x") == "1.2.3"

    @pytest.mark.parametrize("value", ["", " ", b"", "1" * 65, b"1.\xe9", "1.\u0662", b"\0\0"])
    def test_bad_length_or_alphabet(self, value):
        with pytest.raises(ValueError, match="some_name: a UID has 1 to 64"):
            as_uid(value, "some_name")

    @pytest.mark.parametrize("value", [None, 1, 1.2, ["1.2"]])
    def test_other_types(self, value):
        with pytest.raises(TypeError, match="some_name"):
            as_uid(value, "some_name")

    def test_64_characters_are_allowed(self):
        assert len(as_uid("1." + "2" * 62, "x")) == 64


def test_a_new_context_is_empty():
    context = PresentationContext()
    assert context.context_id is None
    assert context.abstract_syntax is None
    assert context.transfer_syntax == []
    assert context.result is None
    assert context.status == "Pending"
    assert (context.scu_role, context.scp_role) == (None, None)
    assert (context.as_scu, context.as_scp) == (None, None)


class TestContextID:
    @pytest.mark.parametrize("value", [1, 3, 127, 255, None])
    def test_odd_numbers_of_a_byte(self, value):
        context = PresentationContext()
        context.context_id = value
        assert context.context_id == value

    @pytest.mark.parametrize("value", [-1, 0, 2, 254, 256, 257])
    def test_other_numbers(self, value):
        with pytest.raises(ValueError, match="odd number from 1 to 255"):
            PresentationContext().context_id = value

    @pytest.mark.parametrize("value", ["1", 1.0])
    def test_other_types(self, value):
        with pytest.raises(TypeError):
            PresentationContext().context_id = value


class TestAbstractSyntax:
    def test_becomes_a_uid(self):
        context = build(VERIFICATION)
        assert type(context.abstract_syntax) is UID
        assert context.abstract_syntax.name == "Verification SOP Class"

    def test_non_conformant_is_kept_with_a_warning(self, caplog):
        context = build("1.02.x")
        assert context.abstract_syntax == "1.02.x"
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "'1.02.x' does not conform" in caplog.text

    def test_none_is_refused(self):
        with pytest.raises(TypeError):
            PresentationContext().abstract_syntax = None


class TestTransferSyntax:
    def test_order_is_kept_and_duplicates_are_not(self):
        context = build(VERIFICATION, ExplicitVRLittleEndian, IMPLICIT, ExplicitVRLittleEndian)
        assert context.transfer_syntax == [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
        context.add_transfer_syntax(b"1.2.840.10008.1.2.2")
        context.add_transfer_syntax(IMPLICIT)
        assert context.transfer_syntax[2:] == [ExplicitVRBigEndian]
        assert all(type(uid) is UID for uid in context.transfer_syntax)

    @pytest.mark.parametrize("value", [None, IMPLICIT, (IMPLICIT,)])
    def test_only_a_list(self, value):
        with pytest.raises(TypeError, match="is a list"):
            PresentationContext().transfer_syntax = value

    def test_an_invalid_uid_leaves_what_was_there(self):
        context = build()
        with pytest.raises(ValueError, match="transfer_syntax"):
            context.transfer_syntax = [ExplicitVRLittleEndian, "1" * 65]
        assert context.transfer_syntax == [IMPLICIT]

    def test_what_is_no_uid_is_left_out(self, caplog):
        context = PresentationContext()
        context.transfer_syntax = [None, 1, IMPLICIT]
        assert context.transfer_syntax == [IMPLICIT]
        assert [record.levelno for record in caplog.records] == [logging.ERROR]

    @pytest.mark.parametrize(
        ("uid", "text"),
        [
            ("1.02", "'1.02' does not conform"),
            (VERIFICATION, "Verification SOP Class is not a transfer syntax"),
        ],
    )
    def test_doubtful_ones_are_kept_with_a_warning(self, caplog, uid, text):
        assert build(VERIFICATION, uid).transfer_syntax == [uid]
        assert text in caplog.text

    def test_private_ones_are_not_doubtful(self, caplog):
        assert build(VERIFICATION, "1.2.3.4").transfer_syntax == ["1.2.3.4"]
        assert not caplog.records


class TestRoles:
    @pytest.mark.parametrize("name", ["scu_role", "scp_role"])
    @pytest.mark.parametrize("value", [True, False, None])
    def test_settable(self, name, value):
        context = PresentationContext()
        setattr(context, name, value)
        assert getattr(context, name) is value

    @pytest.mark.parametrize("name", ["scu_role", "scp_role"])
    @pytest.mark.parametrize("value", [0, 1, "yes"])
    def test_nothing_but_bool(self, name, value):
        with pytest.raises(TypeError, match=name):
            setattr(PresentationContext(), name, value)

    @pytest.mark.parametrize("name", ["as_scu", "as_scp"])
    def test_outcome_is_read_only(self, name):
        with pytest.raises(AttributeError):
            setattr(PresentationContext(), name, True)


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (None, "Pending"),
        (Result.ACCEPTANCE, "Accepted"),
        (1, "User Rejected"),
        (2, "Provider Rejected"),
        (3, "Abstract Syntax Not Supported"),
        (4, "Transfer Syntax(es) Not Supported"),
        (5, "Unknown"),
    ],
)
def test_status(result, status):
    context = PresentationContext()
    context.result = result
    assert context.status == status


def test_as_tuple():
    context = build()
    context.context_id = 5
    assert context.as_tuple == PresentationContextTuple(5, VERIFICATION, IMPLICIT)
    assert context.as_tuple.transfer_syntax.name == "Implicit VR Little Endian"


class TestEquality:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("context_id", 3),
            ("abstract_syntax", "1.2.3"),
            ("transfer_syntax", [ExplicitVRLittleEndian]),
            ("result", 0),
            ("scu_role", True),
            ("scp_role", False),
            ("_as_scu", True),
            ("_as_scp", False),
        ],
    )
    def test_every_field_counts(self, name, value):
        one, other = build(), build()
        assert one == other
        assert hash(one) == hash(other)
        setattr(other, name, value)
        assert one != other

    def test_order_of_transfer_syntaxes_counts(self):
        syntaxes = [IMPLICIT, DeflatedExplicitVRLittleEndian]
        assert build(VERIFICATION, *syntaxes) != build(VERIFICATION, *reversed(syntaxes))

    def test_other_types_differ(self):
        assert build() != VERIFICATION


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_are_equal_and_independent(duplicate):
    context = build()
    context.context_id, context.result = 7, 0
    context.scu_role, context.scp_role = True, False
    context._as_scu, context._as_scp = False, True
    other = duplicate(context)
    assert other == context
    other.add_transfer_syntax(ExplicitVRLittleEndian)
    assert context.transfer_syntax == [IMPLICIT]


def test_deepcopy_keeps_subclass_uid_encoding_and_silence(caplog):
    class Special(PresentationContext):
        pass

    private = quick_uid("1.2.3.4.05")  # pydicom would warn about it, were it rebuilt
    private.set_private_encoding(False, False)
    other = copy.deepcopy(Special.from_wire(1, quick_uid("1.02"), [private]))
    assert type(other) is Special
    assert other.transfer_syntax[0].is_little_endian is False
    assert not caplog.records


class TestText:
    def test_of_an_empty_context(self):
        context = PresentationContext()
        assert repr(context) == "PresentationContext()"
        assert str(context) == "Transfer Syntax(es):\n    (none)"

    def test_of_a_proposed_context(self):
        context = build(VERIFICATION, IMPLICIT, "1.2.3")
        assert repr(context) == (
            "<PresentationContext: Verification SOP Class, Implicit VR Little Endian, 1.2.3>"
        )
        assert str(context) == (
            "Abstract Syntax: Verification SOP Class\n"
            "Transfer Syntax(es):\n"
            "    =Implicit VR Little Endian\n"
            "    =1.2.3"
        )

    @pytest.mark.parametrize(
        ("roles", "text"),
        [
            ((True, True), "SCU and SCP"),
            ((True, False), "SCU only"),
            ((False, True), "SCP only"),
            ((False, False), "(none)"),
        ],
    )
    def test_of_a_negotiated_context(self, roles, text):
        context = build()
        context.context_id, context.result = 3, 0
        context._as_scu, context._as_scp = roles
        assert repr(context).startswith(
            "<PresentationContext 3: Verification SOP Class, Accepted, "
        )
        assert str(context).splitlines()[0] == "ID: 3"
        assert str(context).splitlines()[-2:] == ["Result: Accepted", f"Role: {text}"]

    def test_what_a_peer_sent_is_escaped(self):
        context = PresentationContext.from_wire(1, quick_uid("1.2\nfake"), [quick_uid("\x1b[2J")])
        assert repr(context) == "<PresentationContext 1: 1.2\\nfake, \\x1b[2J>"
        assert "=\\x1b[2J" in str(context)
        assert len(str(context).splitlines()) == 4
