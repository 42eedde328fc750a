"""The two ends of an association, before and after their PDUs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dicomwire.implementation import IMPLEMENTATION_CLASS_UID
from dicomwire.protocol.context import PresentationContext
from dicomwire.protocol.items import (
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from dicomwire.protocol.pdu import AssociateAC, AssociateRJ, AssociateRQ
from dicomwire.session.ends import AddressInformation, ServiceUser

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"


def end(mode, ours=True):
    """Return one end; `ours` says on which side of the wire we are."""
    other = {"requestor": "acceptor", "acceptor": "requestor"}[mode]
    mine = mode if ours else other
    return ServiceUser(SimpleNamespace(mode=mine, address_of=lambda _: ""), mode)


def context(uid, context_id=None):
    return PresentationContext.from_wire(context_id, uid, ["1.2.840.10008.1.2"])


def extended_items():
    return [
        UserIdentityNegotiation(1, primary_field=b"name"),
        SOPClassExtendedNegotiation(CT, b"\x01"),
        SCP_SCU_RoleSelectionNegotiation(CT, True, True),
        AsynchronousOperationsWindowNegotiation(3, 4),
    ]


def kinds(items):
    return [type(item) for item in items]


# -- before negotiation -----------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["requestor", "acceptor"])
def test_a_new_one(mode):
    user = end(mode)
    assert user.mode == mode
    assert user.is_requestor is (mode == "requestor")
    assert user.is_acceptor is (mode == "acceptor")
    assert user.writeable
    assert user.primitive is None
    assert user.address_info is None
    assert user.ae_title == ""
    assert user.maximum_length == 16382
    assert user.implementation_class_uid == IMPLEMENTATION_CLASS_UID
    assert user.implementation_version_name is None
    assert user.asynchronous_operations == (1, 1)
    assert user.role_selection == {}
    assert user.sop_class_extended == {}
    assert user.sop_class_common_extended == {}
    assert user.user_identity is None
    assert user.extended_negotiation == []
    assert kinds(user.user_information) == [
        MaximumLengthNotification,
        ImplementationClassUIDNotification,
    ]
    assert user.info == {"ae_title": "", "address": None, "port": None, "mode": mode}


def test_there_are_two_modes():
    with pytest.raises(ValueError, match="'requestor' or 'acceptor'"):
        ServiceUser(SimpleNamespace(mode="requestor"), "both")


def test_ae_title():
    user = end("requestor")
    user.ae_title = " AB "
    assert user.ae_title == " AB "
    with pytest.warns(DeprecationWarning, match="use str"):
        user.ae_title = b"CD"
    assert user.ae_title == "CD"
    for bad in ("", "  ", "A" * 17):
        with pytest.raises(ValueError, match="ae_title"):
            user.ae_title = bad
    with pytest.raises(TypeError, match="ae_title"):
        user.ae_title = None


def test_maximum_length():
    user = end("requestor")
    for value in (0, 5, 0xFFFFFFFF):
        user.maximum_length = value
        assert user.maximum_length == value
        assert user.user_information[0] == MaximumLengthNotification(value)
    for bad in (-1, 0x1_0000_0000):
        with pytest.raises(ValueError, match="maximum_length"):
            user.maximum_length = bad
    for bad in (None, "x", 1.5):
        with pytest.raises(TypeError, match="maximum_length"):
            user.maximum_length = bad


def test_implementation():
    user = end("acceptor")
    user.implementation_class_uid = b"1.2.3"
    user.implementation_version_name = "VERSION 1"
    assert user.implementation_class_uid == "1.2.3"
    assert user.implementation_version_name == "VERSION 1"
    assert user.user_information[1:] == [
        ImplementationClassUIDNotification("1.2.3"),
        ImplementationVersionNameNotification("VERSION 1"),
    ]
    user.implementation_class_uid = None
    user.implementation_version_name = None
    assert user.implementation_class_uid is None
    assert kinds(user.user_information) == [MaximumLengthNotification]


@pytest.mark.parametrize("bad", ["", "1" * 65])
def test_bad_implementation_class_uid(bad):
    with pytest.raises(ValueError, match="implementation_class_uid"):
        end("requestor").implementation_class_uid = bad


@pytest.mark.parametrize("bad", ["", "A" * 17])
def test_bad_implementation_version_name(bad):
    with pytest.raises(ValueError, match="implementation_version_name"):
        end("requestor").implementation_version_name = bad


def test_address():
    user = end("acceptor")
    for name in ("address", "port"):
        with pytest.raises(ValueError, match="address of the acceptor is not known"):
            getattr(user, name)
    user.assoc.address_of = {"acceptor": ("127.0.0.1", 11112)}.get
    assert user.address_info == AddressInformation("127.0.0.1", 11112)
    assert (user.address, user.port) == ("127.0.0.1", 11112)
    assert (user.info["address"], user.info["port"]) == ("127.0.0.1", 11112)


def test_address_as_sockets_have_it():
    four = AddressInformation("127.0.0.1", 104)
    assert not four.is_ipv6
    assert four.as_tuple == ("127.0.0.1", 104)
    assert (four.is_ipv4, four.is_ipv6) == (True, False)
    assert AddressInformation.from_tuple(("127.0.0.1", 104)) == four
    assert AddressInformation.from_addr_port("127.0.0.1", 104) == four
    six = AddressInformation("::1", 104, 2, 3)
    assert (six.is_ipv4, six.is_ipv6) == (False, True)
    assert AddressInformation.from_tuple(("::1", 104, 2, 3)) == six
    assert AddressInformation.from_addr_port(("::1", 2, 3), 104) == six
    assert six.is_ipv6
    assert six.as_tuple == ("::1", 104, 2, 3)


def test_contexts_of_our_own_end():
    requestor, acceptor = end("requestor"), end("acceptor")
    assert requestor.requested_contexts == requestor.get_contexts("requested") == []
    assert acceptor.supported_contexts == acceptor.get_contexts("supported") == []
    ours = [context(VERIFICATION)]
    requestor.requested_contexts = ours
    acceptor.supported_contexts = ours
    assert requestor.requested_contexts == acceptor.supported_contexts == ours
    assert requestor.requested_contexts[0] is ours[0]


@pytest.mark.parametrize(
    ("mode", "ours", "kind"),
    [
        ("requestor", True, "supported"),
        ("requestor", True, "pcdl"),
        ("requestor", True, "pcdrl"),
        ("requestor", False, "requested"),
        ("requestor", False, "pcdl"),
        ("acceptor", True, "requested"),
        ("acceptor", True, "pcdl"),
        ("acceptor", True, "pcdrl"),
        ("acceptor", False, "supported"),
        ("acceptor", False, "pcdrl"),
        ("acceptor", True, "other"),
    ],
)
def test_contexts_that_there_are_not_yet(mode, ours, kind):
    with pytest.raises(ValueError, match=f"{mode} has no '{kind}' presentation contexts"):
        end(mode, ours).get_contexts(kind)


def test_contexts_belong_to_one_end():
    with pytest.raises(AttributeError, match="only the acceptor"):
        end("requestor").supported_contexts = []
    with pytest.raises(AttributeError, match="only the requestor"):
        end("acceptor").requested_contexts = []
    with pytest.raises(ValueError, match="of the peer"):
        end("acceptor", ours=False).supported_contexts = []
    with pytest.raises(ValueError, match="list of PresentationContext"):
        end("requestor").requested_contexts = ["1.2.3"]


# -- extended negotiation -----------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["requestor", "acceptor"])
def test_extended_negotiation(mode):
    user = end(mode)
    user.implementation_version_name = "V"
    identity, extended, roles, window = items = extended_items()
    for item in items:
        user.add_negotiation_item(item)
    assert user.extended_negotiation == [window, roles, extended, identity]
    assert kinds(user.user_information) == [
        MaximumLengthNotification,
        ImplementationClassUIDNotification,
        AsynchronousOperationsWindowNegotiation,
        SCP_SCU_RoleSelectionNegotiation,
        ImplementationVersionNameNotification,
        SOPClassExtendedNegotiation,
        UserIdentityNegotiation,
    ]
    assert user.asynchronous_operations == (3, 4)
    assert user.role_selection == {CT: roles}
    assert user.sop_class_extended == {CT: b"\x01"}
    assert user.user_identity is identity

    user.remove_negotiation_item(SCP_SCU_RoleSelectionNegotiation(CT, True, True))
    user.remove_negotiation_item(SCP_SCU_RoleSelectionNegotiation(CT, True, True))
    assert user.extended_negotiation == [window, extended, identity]
    user.reset_negotiation_items()
    assert user.extended_negotiation == []


def test_an_item_takes_the_place_of_its_like():
    user = end("requestor")
    for item in (
        AsynchronousOperationsWindowNegotiation(3, 4),
        AsynchronousOperationsWindowNegotiation(5, 6),
        SCP_SCU_RoleSelectionNegotiation(CT, True, True),
        SCP_SCU_RoleSelectionNegotiation(VERIFICATION, True, True),
        SCP_SCU_RoleSelectionNegotiation(CT, False, True),
    ):
        user.add_negotiation_item(item)
    assert user.asynchronous_operations == (5, 6)
    assert len(user.extended_negotiation) == 3
    assert user.role_selection[CT].scu_role is False


def test_a_derived_item_is_one_of_its_kind():
    class Roles(SCP_SCU_RoleSelectionNegotiation):
        pass

    user = end("requestor")
    user.add_negotiation_item(SCP_SCU_RoleSelectionNegotiation(CT, True, True))
    user.add_negotiation_item(Roles(CT, False, True))
    assert kinds(user.extended_negotiation) == [Roles]


def test_items_without_values_yet():
    user = end("requestor")
    user.add_negotiation_item(SCP_SCU_RoleSelectionNegotiation())
    user.add_negotiation_item(SOPClassExtendedNegotiation(CT))
    assert user.role_selection == {}
    assert user.sop_class_extended == {}


def test_only_a_requestor_sends_common_extended_negotiation():
    item = SOPClassCommonExtendedNegotiation(CT, "1.2.840.10008.4.2", ["1.2.3"])
    user = end("requestor")
    user.add_negotiation_item(item)
    assert user.sop_class_common_extended == {CT: item}
    with pytest.raises(TypeError, match="of the acceptor"):
        end("acceptor").add_negotiation_item(item)


@pytest.mark.parametrize(
    "item",
    [
        MaximumLengthNotification(),
        ImplementationClassUIDNotification(),
        ImplementationVersionNameNotification(),
        "x",
        None,
    ],
)
def test_what_is_no_item_of_extended_negotiation(item):
    user = end("requestor")
    with pytest.raises(TypeError, match="extended negotiation"):
        user.add_negotiation_item(item)
    with pytest.raises(TypeError, match="extended negotiation"):
        user.remove_negotiation_item(item)


def test_accepted_common_extended():
    acceptor = end("acceptor")
    assert acceptor.accepted_common_extended == {}
    item = SOPClassCommonExtendedNegotiation(CT, "1.2.840.10008.4.2", ["1.2.3"])
    acceptor.accept_common_extended({CT: item})
    assert acceptor.accepted_common_extended == {CT: ("1.2.840.10008.4.2", ["1.2.3"])}
    with pytest.raises(RuntimeError, match="only the acceptor"):
        _ = end("requestor").accepted_common_extended


# -- after negotiation --------------------------------------------------------------------------


def test_nothing_can_be_set_any_more():
    user = end("requestor")
    user.primitive = AssociateRQ()
    assert not user.writeable
    for name, value in {
        "maximum_length": 5,
        "implementation_class_uid": "1.2.3",
        "implementation_version_name": "V",
        "requested_contexts": [],
    }.items():
        with pytest.raises(RuntimeError, match=f"{name} cannot be changed"):
            setattr(user, name, value)
    item = AsynchronousOperationsWindowNegotiation()
    for change in (
        lambda: user.add_negotiation_item(item),
        lambda: user.remove_negotiation_item(item),
        user.reset_negotiation_items,
    ):
        with pytest.raises(RuntimeError, match="extended negotiation cannot be changed"):
            change()
    acceptor = end("acceptor")
    acceptor.primitive = AssociateAC()
    with pytest.raises(RuntimeError, match="supported_contexts cannot be changed"):
        acceptor.supported_contexts = []


def test_the_requestor_that_is_the_peer():
    requestor = end("requestor", ours=False)
    proposed = [context(VERIFICATION, 1), context(CT, 3)]
    common = SOPClassCommonExtendedNegotiation(CT, "1.2.840.10008.4.2")
    requestor.primitive = AssociateRQ(
        called_ae_title="US",
        calling_ae_title="THEM",
        presentation_contexts=proposed,
        user_information=[
            MaximumLengthNotification(0),
            ImplementationClassUIDNotification("1.2.3"),
            ImplementationVersionNameNotification("THEIRS"),
            *extended_items(),
            common,
        ],
    )
    assert requestor.ae_title == "THEM"
    assert requestor.maximum_length == 0
    assert requestor.implementation_class_uid == "1.2.3"
    assert requestor.implementation_version_name == "THEIRS"
    assert requestor.asynchronous_operations == (3, 4)
    assert requestor.sop_class_common_extended == {CT: common}
    assert requestor.user_identity.primary_field == b"name"
    assert requestor.extended_negotiation == [*extended_items(), common]
    assert requestor.requested_contexts == requestor.get_contexts("pcdl") == proposed
    assert requestor.info["pdv_size"] == 0
    for kind in ("requested", "supported", "pcdrl"):
        with pytest.raises(ValueError, match=kind):
            requestor.get_contexts(kind)


def test_the_requestor_that_we_are():
    requestor = end("requestor")
    ours = [context(VERIFICATION, 1)]
    requestor.ae_title = "US"
    requestor.requested_contexts = ours
    requestor.primitive = AssociateRQ(calling_ae_title="US", presentation_contexts=ours)
    assert requestor.ae_title == "US"
    assert requestor.requested_contexts == ours
    assert requestor.get_contexts("requested") == requestor.get_contexts("pcdl") == ours


def test_the_acceptor_that_is_the_peer():
    acceptor = end("acceptor", ours=False)
    acceptor.ae_title = "ANY-SCP"
    answered = [PresentationContext.from_wire(1, None, ["1.2.840.10008.1.2"], 0)]
    acceptor.primitive = AssociateAC(
        called_ae_title="RESERVED",
        presentation_contexts=answered,
        user_information=[
            MaximumLengthNotification(99),
            UserIdentityNegotiation(server_response=b"hello"),
        ],
    )
    assert acceptor.ae_title == "ANY-SCP"
    assert acceptor.supported_contexts == acceptor.get_contexts("pcdrl") == answered
    assert acceptor.maximum_length == 99
    assert acceptor.implementation_class_uid is None
    assert acceptor.implementation_version_name is None
    assert acceptor.user_identity.server_response == b"hello"


def test_the_acceptor_that_we_are():
    acceptor = end("acceptor")
    ours = [context(VERIFICATION)]
    acceptor.supported_contexts = ours
    answered = [PresentationContext.from_wire(1, VERIFICATION, ["1.2.840.10008.1.2"], 0)]
    acceptor.primitive = AssociateAC(presentation_contexts=answered)
    assert acceptor.supported_contexts == acceptor.get_contexts("supported") == ours
    assert acceptor.get_contexts("pcdrl") == answered


def test_a_rejecting_acceptor_tells_nothing():
    acceptor = end("acceptor", ours=False)
    acceptor.ae_title = "ANY-SCP"
    acceptor.primitive = AssociateRJ(result=1, source=1, diagnostic=3)
    assert acceptor.user_information == []
    assert acceptor.maximum_length is None
    assert acceptor.supported_contexts == []
    assert acceptor.info["pdv_size"] is None
    assert acceptor.ae_title == "ANY-SCP"
