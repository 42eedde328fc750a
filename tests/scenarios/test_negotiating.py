"""What both ends agree on beside contexts: roles, identities, windows, extended negotiation."""

from __future__ import annotations

import pytest
from scenario import ABORTED, ESTABLISHED, REJECTED, Recorder, make_ct, state

from dicomwire import build_context, build_role, evt
from dicomwire.protocol.command import Command, Message
from dicomwire.protocol.items import (
    AsynchronousOperationsWindowNegotiation,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from dicomwire.protocol.pdu import AssociateAC
from raw_peer import CT, EXPLICIT, IMPLICIT, VERIFICATION, WAIT, RawPeer, context, request_pdu

MR = "1.2.840.10008.5.1.4.1.1.4"
PRIVATE = "1.2.3.4.5.6.7"
STORAGE_SERVICE = "1.2.840.10008.4.2"


# --- Roles ---


def negotiated(face, supported, proposed):
    """Return what (SCU, SCP) role the requestor may have in the end; None if rejected."""
    ae = face.ae("SCP")
    ae.add_supported_context(CT, scu_role=supported[0], scp_role=supported[1])
    ae.add_supported_context(VERIFICATION)
    server = face.serve(ae=ae)
    items = [build_role(CT, *proposed)] if proposed else []
    with face.associate(server, ext_neg=items) as assoc:
        (acceptor,) = server.active_associations
        ours = [each for each in assoc.accepted_contexts if each.abstract_syntax == CT]
        theirs = [each for each in acceptor.accepted_contexts if each.abstract_syntax == CT]
        assert len(ours) == len(theirs)
        if not ours:
            return None
        assert (ours[0].as_scu, ours[0].as_scp) == (theirs[0].as_scp, theirs[0].as_scu)
        return ours[0].as_scu, ours[0].as_scp


@pytest.mark.parametrize(
    ("supported", "proposed", "outcome"),
    [
        ((None, None), None, (True, False)),
        ((None, None), (True, True), (True, False)),
        ((True, True), None, (True, False)),
        ((True, True), (True, True), (True, True)),
        ((True, True), (False, True), (False, True)),
        ((True, True), (True, False), (True, False)),
        ((True, False), (True, True), (True, False)),
        ((False, True), (True, True), (False, True)),
        ((False, True), (True, False), None),
        ((True, False), (False, True), None),
        ((False, False), (True, True), None),
    ],
)
def test_roles(face, supported, proposed, outcome):
    assert negotiated(face, supported, proposed) == outcome


def test_the_acceptor_stores_on_the_requestor(face):
    """With the SCP role the requestor serves, and asks in its turn."""
    ae = face.ae("SCP")
    ae.add_supported_context(CT, scu_role=True, scp_role=True)
    stored = []
    server = face.serve([(evt.EVT_C_STORE, lambda event: 0xB006)], ae=ae)
    with face.associate(
        server,
        [(evt.EVT_C_STORE, lambda event: stored.append(event) or 0xB007)],
        contexts=[CT],
        ext_neg=[build_role(CT, scu_role=True, scp_role=True)],
    ) as assoc:
        (acceptor,) = server.active_associations
        assert acceptor.send_c_store(make_ct()).Status == 0xB007
        assert assoc.send_c_store(make_ct()).Status == 0xB006
    assert stored[0].assoc is assoc
    assert assoc.is_released


def test_who_has_not_the_role_cannot_send(face):
    ae = face.ae("SCP")
    ae.add_supported_context(CT, scu_role=True, scp_role=True)
    server = face.serve(ae=ae)
    with face.associate(server, contexts=[CT], ext_neg=[build_role(CT, scp_role=True)]) as assoc:
        with pytest.raises(ValueError, match="as SCP only"):
            assoc.send_c_store(make_ct())
        assert assoc.is_established


def test_one_role_alone_cannot_be_supported(face):
    ae = face.ae("SCP")
    ae.add_supported_context(CT, scu_role=True)
    with pytest.raises(ValueError, match="scu_role and scp_role"):
        face.serve(ae=ae)


# --- User identity ---


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("reply", [None, b"a ticket"])
def test_user_identity(face, kind, wanted, reply):
    asked = []

    def verify(event):
        asked.append((event.user_id_type, event.primary_field, event.secondary_field))
        return True, reply

    server = face.serve([(evt.EVT_USER_ID, verify)])
    secret = b"secret" if kind == 2 else None
    identity = UserIdentityNegotiation(kind, wanted, b"somebody", secret)
    with face.associate(server, ext_neg=[identity]) as assoc:
        assert state(assoc) == ESTABLISHED
        (acceptor,) = server.active_associations
        assert acceptor.requestor.user_identity.primary_field == b"somebody"
        answered = assoc.acceptor.user_identity
        assert (answered and answered.server_response) == (reply if wanted and kind > 2 else None)
        assert acceptor.acceptor.user_identity == answered
    ((kind_seen, name, word),) = asked
    assert (kind_seen, name) == (kind, b"somebody")
    assert (word or b"") == (secret or b"")


def test_user_identity_that_nobody_verifies(face):
    identity = UserIdentityNegotiation(3, True, b"ticket")
    with face.associate(face.serve(), ext_neg=[identity]) as assoc:
        assert state(assoc) == ESTABLISHED
        assert assoc.acceptor.user_identity is None


@pytest.mark.parametrize("answer", [None, True, "yes", (True,), (1, 2, 3)])
def test_a_verification_that_answers_nonsense_rejects(face, answer, caplog):
    server = face.serve([(evt.EVT_USER_ID, lambda event: answer)])
    identity = UserIdentityNegotiation(1, False, b"somebody")
    assoc = face.associate(server, ext_neg=[identity])
    assert state(assoc) == REJECTED
    assert any("EVT_USER_ID" in text for text in caplog.messages)
    assert not any("somebody" in text for text in caplog.messages)


@pytest.mark.parametrize("reply", ["text", 5, b"x" * 70_000])
def test_a_response_that_cannot_be_sent_is_left_out(face, reply):
    server = face.serve([(evt.EVT_USER_ID, lambda event: (True, reply))])
    identity = UserIdentityNegotiation(4, True, b"assertion")
    with face.associate(server, ext_neg=[identity]) as assoc:
        assert state(assoc) == ESTABLISHED
        assert assoc.acceptor.user_identity is None


def test_nobody_asks_without_an_identity(face):
    asked = []
    server = face.serve([(evt.EVT_USER_ID, lambda event: asked.append(event) or (False, None))])
    with face.associate(server) as assoc:
        assert state(assoc) == ESTABLISHED
    assert not asked


# --- Asynchronous operations ---


def test_a_window_that_nobody_negotiates(face):
    item = AsynchronousOperationsWindowNegotiation(5, 6)
    server = face.serve()
    with face.associate(server, ext_neg=[item]) as assoc:
        assert assoc.requestor.asynchronous_operations == (5, 6)
        assert assoc.acceptor.asynchronous_operations == (1, 1)
        assert not assoc.acceptor.extended_negotiation
        (acceptor,) = server.active_associations
        assert acceptor.requestor.asynchronous_operations == (5, 6)


@pytest.mark.parametrize("fails", [False, True])
def test_a_window_is_negotiated(face, fails):
    asked = []

    def handle(event):
        asked.append((event.nr_invoked, event.nr_performed))
        if fails:
            raise ZeroDivisionError
        return 3, 4

    server = face.serve([(evt.EVT_ASYNC_OPS, handle)])
    item = AsynchronousOperationsWindowNegotiation(5, 0)
    with face.associate(server, ext_neg=[item]) as assoc:
        assert assoc.acceptor.extended_negotiation == [AsynchronousOperationsWindowNegotiation()]
        assert assoc.send_c_echo().Status == 0
    assert asked == [(5, 0)]
    with face.associate(server, ext_neg=[AsynchronousOperationsWindowNegotiation(1, 1)]) as assoc:
        assert not assoc.acceptor.extended_negotiation
    assert len(asked) == 1


# --- SOP class extended negotiation ---


def test_extended_negotiation(face):
    asked = []

    def handle(event):
        asked.append(event.app_info)
        return {CT: b"\x02", MR: b"\x03"}

    server = face.serve([(evt.EVT_SOP_EXTENDED, handle)])
    items = [SOPClassExtendedNegotiation(CT, b"\x01\x00"), SOPClassExtendedNegotiation(MR, b"")]
    with face.associate(server, ext_neg=items) as assoc:
        assert assoc.acceptor.sop_class_extended == {CT: b"\x02", MR: b"\x03"}
        (acceptor,) = server.active_associations
        assert acceptor.requestor.sop_class_extended == {CT: b"\x01\x00", MR: b""}
    with face.associate(server):
        pass
    assert asked == [{CT: b"\x01\x00", MR: b""}, {}]


def test_extended_negotiation_that_fails(face, caplog):
    item = SOPClassExtendedNegotiation(CT, b"\x01")
    for answer in (None, 5, {CT: "text", MR: b"\x03"}, {5: b"", MR: b"\x03"}):
        server = face.serve([(evt.EVT_SOP_EXTENDED, lambda event, answer=answer: answer)])
        with face.associate(server, ext_neg=[item]) as assoc:
            assert state(assoc) == ESTABLISHED
            wanted = {MR: b"\x03"} if isinstance(answer, dict) else {}
            assert assoc.acceptor.sop_class_extended == wanted

    def fail(event):
        raise ZeroDivisionError

    server = face.serve([(evt.EVT_SOP_EXTENDED, fail)])
    with face.associate(server, ext_neg=[item]) as assoc:
        assert not assoc.acceptor.sop_class_extended
    assert sum("EVT_SOP_EXTENDED" in text for text in caplog.messages) >= 5


def test_common_extended_negotiation_chooses_the_service(face):
    """A private SOP class is stored, since its items say that it is a storage class."""
    asked, stored = [], []

    def handle(event):
        asked.append(event.items)
        wrong = SOPClassCommonExtendedNegotiation(MR, "1.2.840.10008.4.3", [])
        return {**event.items, MR: wrong, CT: wrong}

    server = face.serve(
        [
            (evt.EVT_SOP_COMMON, handle),
            (evt.EVT_C_STORE, lambda event: stored.append(event) or 0),
        ],
        supported=[PRIVATE, VERIFICATION],
    )
    items = [
        SOPClassCommonExtendedNegotiation(PRIVATE, STORAGE_SERVICE, [CT]),
        SOPClassCommonExtendedNegotiation(MR, STORAGE_SERVICE, []),
    ]
    ds = make_ct()
    ds.SOPClassUID = PRIVATE
    with face.associate(server, contexts=[PRIVATE], ext_neg=items) as assoc:
        (acceptor,) = server.active_associations
        assert acceptor.acceptor.accepted_common_extended == {
            PRIVATE: (STORAGE_SERVICE, [CT]),
        }
        assert acceptor.requestor.sop_class_common_extended[PRIVATE] == items[0]
        assert assoc.send_c_store(ds).Status == 0
        with pytest.raises(RuntimeError):
            assoc.requestor.accepted_common_extended  # noqa: B018
    assert stored[0].request.AffectedSOPClassUID == PRIVATE
    assert list(asked[0]) == [PRIVATE, MR]
    with face.associate(server, contexts=[PRIVATE]):
        pass
    assert asked[1] == {}


def test_an_acceptor_may_not_answer_what_only_requestors_send(face):
    server = face.serve()
    with face.associate(server):
        (acceptor,) = server.active_associations
        with pytest.raises((TypeError, RuntimeError)):
            acceptor.acceptor.add_negotiation_item(
                SOPClassCommonExtendedNegotiation(CT, STORAGE_SERVICE, [])
            )


def test_all_items_at_once_over_the_wire(face):
    server = face.serve(
        [
            (evt.EVT_USER_ID, lambda event: (True, b"welcome")),
            (evt.EVT_ASYNC_OPS, lambda event: (2, 2)),
            (evt.EVT_SOP_EXTENDED, lambda event: event.app_info),
        ]
    )
    items = [
        SCP_SCU_RoleSelectionNegotiation(CT, True, True),
        AsynchronousOperationsWindowNegotiation(4, 4),
        SOPClassExtendedNegotiation(CT, b"\x01"),
        SOPClassCommonExtendedNegotiation(CT, STORAGE_SERVICE, []),
        UserIdentityNegotiation(5, True, b"token"),
    ]
    with RawPeer.connect(server.server_address[1]) as peer:
        request = request_pdu(context(1, CT), context(3, VERIFICATION))
        request.user_information += items
        peer.send(request)
        answer = peer.receive()
        assert isinstance(answer, AssociateAC)
        kinds = [type(item) for item in answer.user_information]
        assert UserIdentityNegotiation in kinds
        assert SOPClassExtendedNegotiation in kinds
        assert SOPClassCommonExtendedNegotiation not in kinds
        assert SCP_SCU_RoleSelectionNegotiation not in kinds  # roles are not supported here


# --- Unrestricted storage ---


def test_unrestricted_storage(face):
    stored = []
    server = face.serve(
        [(evt.EVT_C_STORE, lambda event: stored.append(event.request) or 0)],
        supported=[],
        unrestricted_storage=True,
    )
    ds = make_ct()
    contexts = [
        build_context(CT, [EXPLICIT, IMPLICIT]),
        build_context(PRIVATE, [IMPLICIT]),
        build_context(VERIFICATION),
        build_context("1.2.840.10008.5.1.4.1.1.481.99", [EXPLICIT]),
    ]
    with face.associate(server, contexts=contexts) as assoc:
        accepted = {each.abstract_syntax: each for each in assoc.accepted_contexts}
        assert VERIFICATION not in accepted
        assert accepted[CT].transfer_syntax == [EXPLICIT]
        for uid in (CT, PRIVATE, "1.2.840.10008.5.1.4.1.1.481.99"):
            ds.SOPClassUID = uid
            assert assoc.send_c_store(ds).Status == 0
    assert len(stored) == 3


def test_unrestricted_storage_beside_other_services(face):
    server = face.serve(
        [(evt.EVT_C_STORE, lambda event: 0)], supported=[VERIFICATION], unrestricted_storage=True
    )
    with face.associate(server, contexts=[MR, VERIFICATION]) as assoc:
        assert assoc.send_c_echo().Status == 0
    assert server.ae.settings.unrestricted_storage


def test_nothing_supported_is_a_mistake_otherwise(face):
    with pytest.raises(ValueError, match="no supported presentation context"):
        face.serve(supported=[])


# --- Wrong messages ---


@pytest.mark.parametrize("number", [2, 5, 255])
def test_a_message_on_a_context_that_was_not_accepted(face, number):
    log = Recorder(evt.EVT_ABORTED)
    server = face.serve(log.handlers, supported=[VERIFICATION])
    with RawPeer.connect(server.server_address[1]) as peer:
        peer.associate(context(1, VERIFICATION), context(5, CT))
        echo = Message(Command.C_ECHO_RQ, MessageID=1, AffectedSOPClassUID=VERIFICATION)
        peer.send_message(echo, on=number)
        assert peer.receive().source == 2
        assert peer.at_end()
    ended = log.wait_for(evt.EVT_ABORTED).assoc
    ended.join(WAIT)
    assert state(ended) == ABORTED
