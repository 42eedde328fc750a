"""The application entity: titles, timeouts, and its two lists of presentation contexts."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from dicomwire.ae import AE, ApplicationEntity
from dicomwire.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicomwire.presentation import (
    DEFAULT_TRANSFER_SYNTAXES,
    StoragePresentationContexts,
    VerificationPresentationContexts,
    build_context,
)
from dicomwire.protocol.context import PresentationContext
from dicomwire.session.contexts import numbered
from dicomwire.settings import Settings

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
JPEG = "1.2.840.10008.1.2.4.50"


@pytest.fixture
def ae():
    return AE()


def shape(contexts):
    return [(context.abstract_syntax, context.transfer_syntax) for context in contexts]


# -- titles, timeouts, limits -------------------------------------------------------------------


def test_a_new_one(ae):
    assert AE is ApplicationEntity
    assert ae.ae_title == "DICOMWIRE"
    assert ae.acse_timeout == 30
    assert ae.dimse_timeout == 30
    assert ae.network_timeout == 60
    assert ae.connection_timeout == 30
    assert ae.maximum_associations == 10
    assert ae.maximum_pdu_size == 16382
    assert ae.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert ae.implementation_version_name == IMPLEMENTATION_VERSION_NAME
    assert ae.require_called_aet is False
    assert ae.require_calling_aet == []
    assert ae.requested_contexts == []
    assert ae.supported_contexts == []
    assert ae.active_associations == []
    assert ae.settings == Settings()


def test_ae_title(ae):
    assert AE("ARCHIVE").ae_title == "ARCHIVE"
    ae.ae_title = " B "
    assert ae.ae_title == " B "
    with pytest.warns(DeprecationWarning, match="use str") as caught:
        ae.ae_title = b"ABC"
    assert caught[0].filename == __file__
    assert ae.ae_title == "ABC"
    for bad in ("", "   ", "A" * 17, "A\\", "é"):
        with pytest.raises(ValueError, match="ae_title"):
            ae.ae_title = bad
        with pytest.raises(ValueError, match="ae_title"):
            AE(bad)
    for bad in (None, 5):
        with pytest.raises(TypeError, match="ae_title"):
            ae.ae_title = bad


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("acse_timeout", 30),
        ("dimse_timeout", 30),
        ("network_timeout", 60),
        ("connection_timeout", 30),
    ],
)
def test_timeouts(ae, name, default, caplog):
    for value in (5, 2.5, None):
        setattr(ae, name, value)
        assert getattr(ae, name) == value
        assert getattr(ae.settings, name) == value
    setattr(ae, name, float("inf"))
    assert getattr(ae, name) is None
    assert not caplog.records
    for bad in (-1, "5", float("nan")):
        setattr(ae, name, 7)
        with caplog.at_level(logging.WARNING, "dicomwire"):
            setattr(ae, name, bad)
        assert getattr(ae, name) == default
        assert name in caplog.records[-1].getMessage()


def test_no_time_at_all_is_a_timeout_but_for_connections(ae):
    for name in ("acse_timeout", "dimse_timeout", "network_timeout"):
        setattr(ae, name, 0)
        assert getattr(ae, name) == 0
    ae.connection_timeout = 0
    assert ae.connection_timeout == 30


def test_a_timeout_reaches_active_associations(ae):
    class Association:
        def __init__(self):
            self.changes = {}

        def update_settings(self, **changes):
            self.changes |= changes

    assoc = Association()
    ae._associations[assoc] = None
    assert ae.active_associations == [assoc]
    ae.dimse_timeout = 5
    ae.network_timeout = None
    assert assoc.changes == {"dimse_timeout": 5, "network_timeout": None}


def test_settings(ae):
    other = AE(settings=Settings(acse_timeout=1.5))
    assert other.acse_timeout == 1.5
    before = ae.settings
    ae.settings = replace(ae.settings, store_ceiling=1000, dimse_timeout=2)
    assert ae.dimse_timeout == 2
    assert ae.settings.store_ceiling == 1000
    assert before == Settings()
    with pytest.raises(TypeError, match="settings"):
        ae.settings = {"acse_timeout": 1}


def test_maximum_associations(ae, caplog):
    ae.maximum_associations = 5
    assert ae.maximum_associations == 5
    for bad in (0, -1, "x", 2.5, None):
        ae.maximum_associations = 5
        with caplog.at_level(logging.WARNING, "dicomwire"):
            ae.maximum_associations = bad
        assert ae.maximum_associations == 1
    assert len(caplog.records) == 5


def test_maximum_pdu_size(ae, caplog):
    for value in (0, 5, 0xFFFFFFFF):
        ae.maximum_pdu_size = value
        assert ae.maximum_pdu_size == value
    ae.maximum_pdu_size = 1000
    with caplog.at_level(logging.WARNING, "dicomwire"):
        ae.maximum_pdu_size = -1
        ae.maximum_pdu_size = 1 << 32
    assert ae.maximum_pdu_size == 1000
    assert len(caplog.records) == 2
    with pytest.raises(TypeError, match="maximum_pdu_size"):
        ae.maximum_pdu_size = "x"


def test_implementation(ae):
    ae.implementation_class_uid = "1.2.3"
    ae.implementation_version_name = "MINE"
    assert ae.implementation_class_uid == "1.2.3"
    assert ae.implementation_version_name == "MINE"
    ae.implementation_version_name = None
    assert ae.implementation_version_name is None
    for bad in ("", "1" * 65, "1.02"):
        with pytest.raises(ValueError, match="implementation_class_uid"):
            ae.implementation_class_uid = bad
    with pytest.raises(TypeError, match="implementation_class_uid"):
        ae.implementation_class_uid = None
    for bad in ("", "A" * 17, "A\\"):
        with pytest.raises(ValueError, match="implementation_version_name"):
            ae.implementation_version_name = bad
    with pytest.raises(TypeError, match="implementation_version_name"):
        ae.implementation_version_name = b"A"


def test_who_may_associate(ae):
    ae.require_called_aet = True
    assert ae.require_called_aet is True
    ae.require_calling_aet = ("A", "B ")
    assert ae.require_calling_aet == ["A", "B "]
    with pytest.warns(DeprecationWarning, match="use str"):
        ae.require_calling_aet = [b"A"]
    for bad in ([""], ["  "], ["A" * 17]):
        with pytest.raises(ValueError, match="require_calling_aet"):
            ae.require_calling_aet = bad
    for wrong in ("ABC", b"ABC", None, [5]):
        with pytest.raises(TypeError):
            ae.require_calling_aet = wrong
    assert ae.require_calling_aet == ["A"]
    ae.require_calling_aet = []
    assert ae.require_calling_aet == []


# -- requested contexts -------------------------------------------------------------------------


def test_requested_contexts_keep_their_order_and_duplicates(ae):
    ae.add_requested_context(VERIFICATION)
    ae.add_requested_context(CT, JPEG)
    ae.add_requested_context(CT, [IMPLICIT, EXPLICIT])
    ae.add_requested_context(VERIFICATION, (EXPLICIT, IMPLICIT))
    assert shape(ae.requested_contexts) == [
        (VERIFICATION, DEFAULT_TRANSFER_SYNTAXES),
        (CT, [JPEG]),
        (CT, [IMPLICIT, EXPLICIT]),
        (VERIFICATION, [EXPLICIT, IMPLICIT]),
    ]


def test_setting_requested_contexts_adds_copies(ae):
    context = build_context(CT, JPEG)
    context.scu_role, context.scp_role = True, False
    context.context_id = 5
    ae.requested_contexts = VerificationPresentationContexts
    ae.requested_contexts = (context,)
    assert [cx.abstract_syntax for cx in ae.requested_contexts] == [VERIFICATION, CT]
    added = ae.requested_contexts[1]
    assert added is not context
    assert added.transfer_syntax is not context.transfer_syntax
    assert (added.context_id, added.scu_role, added.scp_role) == (None, None, None)
    for empty in ([], None):
        ae.requested_contexts = [context]
        ae.requested_contexts = empty
        assert ae.requested_contexts == []


@pytest.mark.parametrize("name", ["requested_contexts", "supported_contexts"])
def test_what_is_no_context(ae, name):
    for bad in ("abc", ["abc"], [build_context(CT), CT], [PresentationContext()]):
        with pytest.raises(ValueError, match="context"):
            setattr(ae, name, bad)
    assert getattr(ae, name) == []


@pytest.mark.parametrize("kind", ["requested", "supported"])
def test_what_is_no_syntax(ae, kind):
    add = getattr(ae, f"add_{kind}_context")
    for arguments in ((None,), (3,), (CT, 3)):
        with pytest.raises(TypeError):
            add(*arguments)
    assert getattr(ae, f"{kind}_contexts") == []


def test_at_most_128_requested_contexts(ae):
    many = [build_context(f"1.2.{index}") for index in range(129)]
    with pytest.raises(ValueError, match="128"):
        ae.requested_contexts = many
    assert ae.requested_contexts == []
    ae.requested_contexts = many[:100]
    with pytest.raises(ValueError, match="128"):
        ae.requested_contexts = many[:29]
    ae.requested_contexts = many[:28]
    assert len(ae.requested_contexts) == 128
    with pytest.raises(ValueError, match="128"):
        ae.add_requested_context("1.2.1")
    assert len(ae.requested_contexts) == 128


def test_removing_requested_contexts(ae):
    ae.add_requested_context(VERIFICATION, [IMPLICIT, EXPLICIT])
    ae.add_requested_context(CT, [IMPLICIT])
    ae.add_requested_context(VERIFICATION, IMPLICIT)
    ae.remove_requested_context(VERIFICATION, JPEG)
    ae.remove_requested_context("1.2.3")
    assert len(ae.requested_contexts) == 3
    ae.remove_requested_context(VERIFICATION, IMPLICIT)
    assert shape(ae.requested_contexts) == [(VERIFICATION, [EXPLICIT]), (CT, [IMPLICIT])]
    ae.remove_requested_context(CT)
    ae.remove_requested_context(VERIFICATION, [IMPLICIT, EXPLICIT])
    assert ae.requested_contexts == []


# -- supported contexts -------------------------------------------------------------------------


def test_supported_contexts_are_merged_and_sorted(ae):
    ae.add_supported_context("1.2.9", EXPLICIT)
    ae.add_supported_context(VERIFICATION, IMPLICIT)
    ae.add_supported_context("1.2.9", [IMPLICIT, EXPLICIT, JPEG])
    assert shape(ae.supported_contexts) == [
        (VERIFICATION, [IMPLICIT]),
        ("1.2.9", [EXPLICIT, IMPLICIT, JPEG]),
    ]


def test_roles_are_those_that_were_given_last(ae):
    def roles():
        (context,) = ae.supported_contexts
        return context.scu_role, context.scp_role

    ae.add_supported_context(CT, scu_role=True, scp_role=False)
    assert roles() == (True, False)
    ae.add_supported_context(CT, scp_role=True)
    assert roles() == (None, True)
    ae.add_supported_context(CT)
    assert roles() == (None, None)
    for bad in (1, "yes"):
        with pytest.raises(TypeError, match="scu_role"):
            ae.add_supported_context(CT, JPEG, scu_role=bad)
    assert shape(ae.supported_contexts) == [(CT, DEFAULT_TRANSFER_SYNTAXES)]


def test_setting_supported_contexts_adds_copies_without_roles(ae):
    context = build_context(CT, IMPLICIT)
    context.scu_role, context.scp_role = True, True
    ae.add_supported_context(CT, JPEG, scu_role=True, scp_role=True)
    ae.supported_contexts = [context, build_context(VERIFICATION, IMPLICIT), context]
    assert shape(ae.supported_contexts) == [(VERIFICATION, [IMPLICIT]), (CT, [JPEG, IMPLICIT])]
    assert ae.supported_contexts[1].scu_role is None
    assert context.scu_role is True
    for empty in ([], None):
        ae.supported_contexts = [context]
        ae.supported_contexts = empty
        assert ae.supported_contexts == []


def test_any_number_of_supported_contexts(ae):
    ae.supported_contexts = [build_context(f"1.2.{index}") for index in range(500)]
    assert len(ae.supported_contexts) == 500


def test_the_list_itself_is_not_handed_out(ae):
    ae.add_supported_context(CT)
    ae.supported_contexts.clear()
    assert len(ae.supported_contexts) == 1


def test_removing_supported_contexts(ae):
    ae.supported_contexts = StoragePresentationContexts
    count = len(ae.supported_contexts)
    ae.remove_supported_context(CT, DEFAULT_TRANSFER_SYNTAXES[1:])
    assert (CT, DEFAULT_TRANSFER_SYNTAXES[:1]) in shape(ae.supported_contexts)
    ae.remove_supported_context(CT)
    ae.remove_supported_context(CT)
    assert len(ae.supported_contexts) == count - 1


# -- and the rest -------------------------------------------------------------------------------


def test_contexts_numbered_for_a_request():
    contexts = [build_context(CT), build_context(VERIFICATION), build_context(CT, JPEG)]
    contexts[1].scu_role, contexts[1].scp_role = False, True
    copies = numbered(contexts)
    assert [context.context_id for context in copies] == [1, 3, 5]
    assert (copies[1].scu_role, copies[1].scp_role) == (False, True)
    assert [context.context_id for context in contexts] == [None] * 3
    assert shape(copies) == shape(contexts)
    assert numbered(contexts * 42)[-1].context_id == 251
    assert numbered([contexts[0]] * 128)[-1].context_id == 255
    with pytest.raises(ValueError, match="128"):
        numbered([contexts[0]] * 129)
    with pytest.raises(ValueError, match="PresentationContext"):
        numbered([CT])


def test_in_words(ae):
    text = str(ae)
    assert "DICOMWIRE" in text
    assert text.count("    none") == 2
    assert "Connection timeout: 30" in text
    assert "Associations: 0/10" in text
    ae.add_requested_context(CT, JPEG)
    ae.add_supported_context(VERIFICATION)
    ae.require_calling_aet = ["ONE", "TWO"]
    ae.require_called_aet = True
    text = str(ae)
    assert "CT Image Storage\n      JPEG Baseline" in text
    assert "Verification SOP Class\n      Implicit VR Little Endian" in text
    assert "Calling AE titles: ONE, TWO" in text
    assert "Called AE title: DICOMWIRE" in text
