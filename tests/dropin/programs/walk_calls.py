"""Prints what calls of the documented functions and methods return or raise, as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from io import BytesIO
from itertools import product
from typing import Any

import pynetdicom
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_context, build_role, dsutils, evt, pdu_primitives, sop_class, utils
from pynetdicom.dimse_messages import C_ECHO_RQ, C_ECHO_RSP
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RQ, A_RELEASE_RQ, P_DATA_TF
from pynetdicom.presentation import negotiate_as_acceptor
from pynetdicom.sop_class import CTImageStorage, Verification
from pynetdicom.transport import AddressInformation


def outcome(call: Callable[[], Any]) -> str:
    """Return what a call returns, or the type of what it raises."""
    try:
        return described(call())
    except Exception as error:
        return next(each.__name__ for each in type(error).__mro__ if each.__module__ == "builtins")


def described(value: Any) -> str:
    """Return a value in a form that has no types of an implementation."""
    if isinstance(value, pdu_primitives.SCP_SCU_RoleSelectionNegotiation):
        return f"{value.sop_class_uid} {value.scu_role} {value.scp_role}"
    if hasattr(value, "transfer_syntax"):
        return f"{value.abstract_syntax} {value.transfer_syntax} {value.context_id}"
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, float):
        return f"{value:g}"
    if type(value) is int:
        return str(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(described, value))}]"
    return f"{type(value).__name__} {value!r}"


# -- functions ------------------------------------------------------------------------------------

TEXTS: dict[str, Any] = {
    "None": None,
    "''": "",
    "'A'": "A",
    "' A '": " A ",
    "'  '": "  ",
    "a str of 17": "A" * 17,
    "a str of 65": "1" * 65,
    "'A\\B'": "A\\B",
    "'Ä'": "Ä",
    "b'A'": b"A",
    "5": 5,
    "'1.2.840.10008.1.1'": "1.2.840.10008.1.1",
    "UID('1.2.840.10008.1.1')": UID("1.2.840.10008.1.1"),
    "'1.2.840.10008.1.2'": "1.2.840.10008.1.2",
    "'1.2.840.10008.4.2'": "1.2.840.10008.4.2",
    "'1.2.840.10008.5.1.1.17'": "1.2.840.10008.5.1.1.17",
    "'1.2.3.99'": "1.2.3.99",
}
OF_TEXTS: dict[str, Callable[[Any], Any]] = {
    "utils.set_ae": lambda value: utils.set_ae(value, "x"),
    "utils.set_ae, not empty": lambda value: utils.set_ae(value, "x", False, False),
    "utils.set_uid": lambda value: utils.set_uid(value, "x"),
    "utils.set_uid, not empty": lambda value: utils.set_uid(value, "x", False, False),
    "utils.set_uid, not validated": lambda value: utils.set_uid(value, "x", True, True, False),
    "uid_to_sop_class": sop_class.uid_to_sop_class,
    "the service of uid_to_sop_class": lambda uid: sop_class.uid_to_sop_class(uid).service_class,
    "uid_to_service_class": sop_class.uid_to_service_class,
    "build_context": build_context,
    "build_context with a syntax": lambda value: build_context(Verification, value),
    "build_role": lambda value: build_role(value, scu_role=True),
    "AE": lambda value: AE(value).ae_title,
    "AE.add_requested_context": lambda value: with_requested(value).requested_contexts,
    "AE.add_supported_context": lambda value: with_supported(value).supported_contexts,
}


def with_requested(value: Any) -> Any:
    """Return an AE that requests a context."""
    ae = AE()
    ae.add_requested_context(value)
    return ae


def with_supported(value: Any) -> Any:
    """Return an AE that supports a context."""
    ae = AE()
    ae.add_supported_context(value)
    return ae


def item(**values: Any) -> Any:
    """Return a dataset."""
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


PLAIN = item(PatientName="A^B", Rows=512, ImageType=["A", "B"], PatientID=None, PixelSpacing=[1, 2])
ENCODED = BytesIO(dsutils.encode(PLAIN, True, True))
NESTED = item(ProcedureCodeSequence=[item(CodeValue="1"), item(CodeValue="2")])
TWICE_NESTED = item(ProcedureCodeSequence=[item(RequestedProcedureCodeSequence=[item()])])
BROKEN = Dataset()
BROKEN.add_new(0x00280010, "US", "many")
PRIVATE = Dataset()
PRIVATE.add_new(0x00090010, "LO", "ACME")
PRIVATE.add_new(0x00091001, "UN", b"abc")
PRIVATE.add_new(0x00091002, "OB", bytes(13))
PRIVATE.add_new(0x00091003, "OB", bytes(14))

FUNCTIONS: dict[str, Callable[[], Any]] = {
    "dsutils.encode(None)": lambda: dsutils.encode(None, True, True),
    "dsutils.encode('x')": lambda: dsutils.encode("x", True, True),
    "dsutils.encode(Dataset())": lambda: dsutils.encode(Dataset(), True, True),
    "dsutils.encode of a plain Dataset": lambda: dsutils.encode(PLAIN, False, True),
    "dsutils.encode, big endian": lambda: dsutils.encode(PLAIN, False, False),
    "dsutils.encode of what cannot be": lambda: dsutils.encode(BROKEN, True, True),
    "dsutils.decode": lambda: str(
        dsutils.decode(BytesIO(dsutils.encode(PLAIN, True, True)), True, True)
    ),
    "dsutils.pretty_dataset": lambda: dsutils.pretty_dataset(PLAIN),
    "dsutils.pretty_dataset, indented": lambda: dsutils.pretty_dataset(PLAIN, 2, ">"),
    "dsutils.pretty_dataset of items": lambda: dsutils.pretty_dataset(NESTED),
    "dsutils.pretty_dataset of items in items": lambda: dsutils.pretty_dataset(TWICE_NESTED),
    "dsutils.pretty_dataset of private elements": lambda: dsutils.pretty_dataset(PRIVATE),
    "dsutils.pretty_element with a line break": lambda: dsutils.pretty_dataset(
        item(ImageComments="a\nb")
    ),
    "utils.pretty_bytes": lambda: utils.pretty_bytes(b"abc"),
    "utils.pretty_bytes of too many": lambda: utils.pretty_bytes(bytes(100), max_size=40),
    "utils.decode_bytes(b'A')": lambda: utils.decode_bytes(b"A"),
    "utils.decode_bytes of what is not ASCII": lambda: utils.decode_bytes(b"\xe4"),
    "utils.validate_uid": lambda: utils.validate_uid(UID("1.2.3")),
    "build_role with neither role": lambda: build_role("1.2.3"),
    "build_role with both roles": lambda: build_role("1.2.3", True, True),
}


# -- items of extended negotiation ----------------------------------------------------------------


def of_class(name: str, **values: Any) -> Callable[[], Any]:
    """Return a call that makes an item and has it as it is sent."""

    def call() -> bytes:
        made = getattr(pdu_primitives, name)()
        for attribute, value in values.items():
            setattr(made, attribute, value)
        encoded: bytes = made.from_primitive().encode()
        return encoded

    return call


UIDS = {"sop_class_uid": "1.2.3"}
ITEMS: dict[str, Callable[[], Any]] = {
    "MaximumLength": of_class("MaximumLengthNotification", maximum_length_received=100),
    "ImplementationClassUID": of_class(
        "ImplementationClassUIDNotification", implementation_class_uid="1.2.3"
    ),
    "ImplementationClassUID without a value": of_class("ImplementationClassUIDNotification"),
    "ImplementationVersionName": of_class(
        "ImplementationVersionNameNotification", implementation_version_name="A"
    ),
    "ImplementationVersionName without a value": of_class("ImplementationVersionNameNotification"),
    "AsynchronousOperationsWindow": of_class(
        "AsynchronousOperationsWindowNegotiation", maximum_number_operations_invoked=5
    ),
    "SCP_SCU_RoleSelection": of_class("SCP_SCU_RoleSelectionNegotiation", **UIDS, scu_role=True),
    "SCP_SCU_RoleSelection without a role": of_class("SCP_SCU_RoleSelectionNegotiation", **UIDS),
    "SCP_SCU_RoleSelection with neither role": of_class(
        "SCP_SCU_RoleSelectionNegotiation", **UIDS, scu_role=False, scp_role=False
    ),
    "SCP_SCU_RoleSelection without a UID": of_class(
        "SCP_SCU_RoleSelectionNegotiation", scu_role=True
    ),
    "SOPClassExtended": of_class(
        "SOPClassExtendedNegotiation", **UIDS, service_class_application_information=b"\1"
    ),
    "SOPClassExtended without information": of_class("SOPClassExtendedNegotiation", **UIDS),
    "SOPClassCommonExtended": of_class(
        "SOPClassCommonExtendedNegotiation",
        **UIDS,
        service_class_uid="1.2",
        related_general_sop_class_identification=["1.3", "1.4"],
    ),
    "SOPClassCommonExtended without a service": of_class(
        "SOPClassCommonExtendedNegotiation", **UIDS
    ),
    "UserIdentity": of_class("UserIdentityNegotiation", user_identity_type=1, primary_field=b"me"),
    "UserIdentity with a passcode": of_class(
        "UserIdentityNegotiation",
        user_identity_type=2,
        primary_field=b"me",
        secondary_field=b"secret",
    ),
    "UserIdentity without its passcode": of_class(
        "UserIdentityNegotiation", user_identity_type=2, primary_field=b"me"
    ),
    "UserIdentity without a type": of_class("UserIdentityNegotiation", primary_field=b"me"),
    "UserIdentity, the answer": of_class("UserIdentityNegotiation", server_response=b"yes"),
}


# -- settings of an AE ----------------------------------------------------------------------------

SETTINGS = (
    "acse_timeout",
    "ae_title",
    "connection_timeout",
    "dimse_timeout",
    "implementation_class_uid",
    "implementation_version_name",
    "maximum_associations",
    "maximum_pdu_size",
    "network_timeout",
    "requested_contexts",
    "require_called_aet",
    "require_calling_aet",
    "supported_contexts",
)
VALUES: dict[str, Any] = {
    **TEXTS,
    "-1": -1,
    "0": 0,
    "1": 1,
    "2.5": 2.5,
    "2**32": 2**32,
    "True": True,
    "[]": [],
    "['A']": ["A"],
    "[5]": [5],
    "a context": [build_context(Verification)],
    "129 contexts": [build_context(f"1.2.3.{number}") for number in range(129)],
}


def setting(name: str, value: Any) -> Any:
    """Return a setting of an AE after a value was assigned to it."""
    ae = AE()
    setattr(ae, name, value)
    return getattr(ae, name)


# -- associations ---------------------------------------------------------------------------------


UNORDERED = ("EVT_CONN_CLOSE", "EVT_DATA_RECV", "EVT_DATA_SENT", "EVT_FSM_TRANSITION")
"""Events whose place among the others depends on threads."""


def associations() -> dict[str, Any]:
    """Return what calls on associations, in their states, have as an outcome."""
    scp, scu = AE(), AE()
    scp.add_supported_context(Verification)
    for uid in (Verification, CTImageStorage):
        scu.add_requested_context(uid)
    found: dict[str, Any] = {}
    order: list[str] = []
    note = [
        (event, lambda event: order.append(event.event.name))
        for event in vars(evt).values()
        if isinstance(event, evt.NotificationEvent) and event.name not in UNORDERED
    ]
    server = scp.start_server(("127.0.0.1", 0), block=False)
    port = server.socket.getsockname()[1]
    find = sop_class.PatientRootQueryRetrieveInformationModelFind

    def begin(**options: Any) -> Any:
        order.clear()
        return scu.associate("127.0.0.1", port, evt_handlers=note, **options)

    assoc = begin()
    calls: dict[str, Callable[[], Any]] = {
        "send_c_echo": lambda: assoc.send_c_echo().Status,
        "send_c_store without a context": lambda: assoc.send_c_store(PLAIN),
        "send_c_find without a context": lambda: list(assoc.send_c_find(PLAIN, find)),
        "send_c_cancel without a model": lambda: assoc.send_c_cancel(1),
        "send_n_get without a context": lambda: assoc.send_n_get([], CTImageStorage, "1.2"),
        "bind what is no event": lambda: assoc.bind("EVT_C_ECHO", print),
        "unbind what was not bound": lambda: assoc.unbind(evt.EVT_ABORTED, print),
        "get_handlers of an intervention": lambda: len(assoc.get_handlers(evt.EVT_C_ECHO)),
        "states": lambda: [
            assoc.is_established,
            assoc.is_released,
            assoc.is_aborted,
            assoc.is_rejected,
            assoc.is_requestor,
            assoc.is_acceptor,
        ],
        "accepted": lambda: [context.context_id for context in assoc.accepted_contexts],
        "rejected": lambda: [(each.context_id, each.result) for each in assoc.rejected_contexts],
        "requestor.info": lambda: sorted(assoc.requestor.info),
        "change of the requestor": lambda: setattr(assoc.requestor, "maximum_length", 5),
        "requestor.get_contexts('pcdl')": lambda: len(assoc.requestor.get_contexts("pcdl")),
        "acceptor.get_contexts('pcdrl')": lambda: len(assoc.acceptor.get_contexts("pcdrl")),
        "requestor.get_contexts('x')": lambda: assoc.requestor.get_contexts("x"),
        "acceptor.accepted_common_extended": lambda: assoc.acceptor.accepted_common_extended,
        "requestor.accepted_common_extended": lambda: assoc.requestor.accepted_common_extended,
    }
    for name, call in calls.items():
        found[f"Association: {name}"] = outcome(call)
    assoc.release()
    found["Association: events until it is released"] = list(order)
    for name in ("send_c_echo", "states"):
        found[f"Association, released: {name}"] = outcome(calls[name])
    assoc.release()
    found["Association, released: release again"] = outcome(calls["states"])
    assoc = begin()
    assoc.abort()
    found["Association: events until it is aborted"] = list(order)
    found["Association, aborted: states"] = outcome(calls["states"])
    scp.require_called_aet = True
    assoc = begin()
    found["Association: events until it is rejected"] = list(order)
    found["Association, rejected: states"] = outcome(calls["states"])
    found["Association, rejected: reason"] = outcome(lambda: assoc.acceptor.primitive.diagnostic)
    server.shutdown()
    assoc = begin()
    found["Association, not connected: states"] = outcome(calls["states"])
    found |= {f"associate: {name}": outcome(call) for name, call in wrongly(scu).items()}
    return found


def wrongly(scu: Any) -> dict[str, Callable[[], Any]]:
    """Return calls of `associate` and `start_server` with wrong arguments."""
    here = "127.0.0.1"
    return {
        "a number as address": lambda: scu.associate(1, 11112),
        "a str as port": lambda: scu.associate(here, "x"),
        "no contexts": lambda: AE().associate(here, 11112),
        "contexts of a wrong type": lambda: scu.associate(here, 11112, contexts=["x"]),
        "a title of 17": lambda: scu.associate(here, 11112, ae_title="A" * 17),
        "a str as extended negotiation": lambda: scu.associate(here, 11112, ext_neg=["x"]),
        "a str as bind_address": lambda: scu.associate(here, 11112, bind_address="x"),
        "129 contexts": lambda: scu.associate(here, 11112, contexts=VALUES["129 contexts"]),
        "a server without contexts": lambda: AE().start_server((here, 0), block=False),
        "a server with one role": lambda: with_one_role().start_server((here, 0), block=False),
    }


def with_one_role() -> Any:
    """Return an AE whose supported context has one role of None."""
    ae = AE()
    ae.add_supported_context(Verification, scu_role=True)
    return ae


ROLES = ((None, None), (True, True), (True, False), (False, True), (False, False))
"""As SCU, and as SCP."""


def roles() -> dict[str, Any]:
    """Return what comes of each proposal of roles, for each that the acceptor has."""
    found = {}
    for asked, ours in product(ROLES, ROLES):
        proposed, supported = build_context(CTImageStorage), build_context(CTImageStorage)
        proposed.context_id = 1
        supported.scu_role, supported.scp_role = ours
        wanted = {CTImageStorage: asked} if asked != (None, None) else {}
        result, items = negotiate_as_acceptor([proposed], [supported], wanted)
        found[f"roles: {asked} proposed, {ours} supported"] = [
            [result[0].result, result[0].as_scu, result[0].as_scp],
            [[item.scu_role, item.scp_role] for item in items],
        ]
    return found


def negotiations() -> dict[str, Any]:
    """Return what comes of extended negotiation, for all kinds of answers of handlers."""
    identity = pdu_primitives.UserIdentityNegotiation()
    identity.user_identity_type, identity.positive_response_requested = 3, True
    identity.primary_field = b"ticket"
    window = pdu_primitives.AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = 5
    extended = pdu_primitives.SOPClassExtendedNegotiation()
    extended.sop_class_uid = CTImageStorage
    extended.service_class_application_information = b"\1"
    answers: list[tuple[Any, Any, str, Any]] = [
        (evt.EVT_USER_ID, identity, "accepted", (True, None)),
        (evt.EVT_USER_ID, identity, "accepted with an answer", (True, b"yes")),
        (evt.EVT_USER_ID, identity, "refused", (False, None)),
        (evt.EVT_USER_ID, identity, "None", None),
        (evt.EVT_USER_ID, identity, "an answer that is a str", (True, "yes")),
        (evt.EVT_USER_ID, identity, "an exception", ZeroDivisionError()),
        (evt.EVT_ASYNC_OPS, window, "a pair", (5, 5)),
        (evt.EVT_ASYNC_OPS, window, "None", None),
        (evt.EVT_ASYNC_OPS, window, "an exception", ZeroDivisionError()),
        (evt.EVT_SOP_EXTENDED, extended, "bytes", {CTImageStorage: b"\2"}),
        (evt.EVT_SOP_EXTENDED, extended, "a str", {CTImageStorage: "x"}),
        (evt.EVT_SOP_EXTENDED, extended, "None", None),
        (evt.EVT_SOP_EXTENDED, extended, "an exception", ZeroDivisionError()),
    ]
    found = {}
    for event, item, name, answer in answers:
        found[f"{event.name}: {name}"] = negotiated(item, [(event, answering(answer))])
    for item in (identity, window, extended):
        found[f"no handler: {type(item).__name__}"] = negotiated(item, [])
    return found


def answering(answer: Any) -> Callable[[Any], Any]:
    """Return a handler that returns `answer`, or raises it."""

    def handle(event: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handle


def negotiated(proposed: Any, handlers: list[Any]) -> Any:
    """Return what an association has negotiated."""
    scp, scu = AE(), AE()
    scu.acse_timeout = 5  # where the real one fails, it does not answer
    scp.add_supported_context(CTImageStorage)
    scu.add_requested_context(CTImageStorage)
    server = scp.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    port = server.socket.getsockname()[1]
    assoc = scu.associate("127.0.0.1", port, ext_neg=[proposed])
    identity = assoc.acceptor.user_identity
    result = [
        [assoc.is_established, assoc.is_rejected, assoc.is_aborted],
        list(assoc.acceptor.asynchronous_operations),
        {uid: repr(value) for uid, value in assoc.acceptor.sop_class_extended.items()},
        identity and repr(identity.server_response),
    ]
    assoc.release()
    server.shutdown()
    return result


ADDRESSES: dict[str, Callable[[], Any]] = {
    "IPv4": lambda: AddressInformation("127.0.0.1", 104),
    "IPv6": lambda: AddressInformation("::1", 104),
    "IPv6 with a scope": lambda: AddressInformation("::1", 104, 1, 2),
    "from_tuple of IPv4": lambda: AddressInformation.from_tuple(("127.0.0.1", 104)),
    "from_tuple of IPv6": lambda: AddressInformation.from_tuple(("::1", 104, 1, 2)),
    "from_addr_port": lambda: AddressInformation.from_addr_port("127.0.0.1", 104),
    "from_addr_port of a tuple": lambda: AddressInformation.from_addr_port(("::1", 1, 2), 104),
}


def address(call: Callable[[], Any]) -> list[Any]:
    """Return what an address says."""
    made = call()
    versions = [made.is_ipv4, made.is_ipv6]
    return [made.address, made.port, made.flowinfo, made.scope_id, made.as_tuple, *versions]


def isinstances() -> dict[str, Any]:
    """Return which classes the PDUs and messages of events are of."""
    kinds = {
        "C_ECHO_RQ": C_ECHO_RQ,
        "C_ECHO_RSP": C_ECHO_RSP,
        "A_ASSOCIATE_RQ": A_ASSOCIATE_RQ,
        "A_ASSOCIATE_AC": A_ASSOCIATE_AC,
        "A_RELEASE_RQ": A_RELEASE_RQ,
        "A_ABORT_RQ": A_ABORT_RQ,
        "P_DATA_TF": P_DATA_TF,
    }
    seen: list[str] = []
    commands: list[list[str]] = []

    def note(event: Any) -> None:
        what = event.message if hasattr(event, "message") else event.pdu
        seen.extend(name for name, kind in kinds.items() if isinstance(what, kind))
        if hasattr(event, "message"):
            commands.append([each.keyword for each in event.message.command_set])

    ae = AE()
    ae.add_supported_context(Verification)
    handlers = [(evt.EVT_PDU_RECV, note), (evt.EVT_DIMSE_RECV, note), (evt.EVT_DIMSE_SENT, note)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    scu = AE()
    scu.add_requested_context(Verification)
    assoc = scu.associate("127.0.0.1", server.socket.getsockname()[1])
    assoc.send_c_echo()
    assoc.release()
    server.shutdown()
    return {
        "classes of event.pdu and event.message": seen,
        "event.message.command_set": commands,
    }


def walk() -> dict[str, Any]:
    """Return the outcome of each call."""
    found: dict[str, Any] = {}
    for name, function in OF_TEXTS.items():
        for said, value in TEXTS.items():
            found[f"{name}({said})"] = outcome(lambda f=function, v=value: f(v))
    found |= {name: outcome(call) for name, call in FUNCTIONS.items()}
    found |= {f"from_primitive: {name}": outcome(call) for name, call in ITEMS.items()}
    for name in SETTINGS:
        for said, value in VALUES.items():
            path = f"AE.{name} = {said}"
            found[path] = outcome(lambda n=name, v=value: setting(n, v))
    for name, call in ADDRESSES.items():
        found[f"AddressInformation: {name}"] = outcome(lambda c=call: address(c))
    return found | roles() | negotiations() | associations() | isinstances()


if __name__ == "__main__":
    logging.disable()
    assert pynetdicom.__version__ == "3.0.4"
    print(json.dumps(walk()))
