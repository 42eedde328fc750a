"""The negotiation of an association: the acceptor's answer, and the requestor's reading of it.

PS3.7 Annex D and PS3.8 Section 7.1. The port calls the program's handlers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dicomwire import events as evt
from dicomwire.errors import AssociationFailure
from dicomwire.logs import LOGGER
from dicomwire.protocol.context import PresentationContext
from dicomwire.protocol.items import (
    AsynchronousOperationsWindowNegotiation,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
    UserItem,
)
from dicomwire.protocol.negotiation import (
    negotiate_as_acceptor,
    negotiate_as_requestor,
    negotiate_unrestricted,
)
from dicomwire.protocol.pdu import (
    APPLICATION_CONTEXT_NAME,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    Rejection,
)
from dicomwire.services.port import Port
from dicomwire.session.agreements import Agreement
from dicomwire.session.ends import ServiceUser

if TYPE_CHECKING:
    from pydicom.uid import UID

_IDENTITIES_WITH_RESPONSE = (3, 4, 5)
"""User identity types with a defined server response (PS3.7 Annex D.3.3.7.2)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Which association requests an acceptor accepts, and on which terms.

    Attributes
    ----------
    called_ae_title : str or None
        The called AE title that a request must have; None for any.
    calling_ae_titles : tuple of str
        The allowed calling AE titles; empty for any.
    unrestricted_storage : bool
        Whether to accept every storage context, also of unknown SOP classes.
    admit : callable
        Counts one more association and returns None, or returns why there is no room for it.
    operations_window : int
        How many operations a requestor may have outstanding, if it asks for several.
    remember : callable
        Called with an acceptance that no handler has taken part in.
    """

    called_ae_title: str | None
    calling_ae_titles: tuple[str, ...]
    unrestricted_storage: bool
    admit: Callable[[], str | None]
    operations_window: int
    remember: Callable[[Agreement], None]


async def answer_request(
    port: Port, request: AssociateRQ, acceptor: ServiceUser, policy: Policy
) -> AssociateAC | AssociateRJ:
    """Return the answer to an association request."""
    rejection = _unwelcome(request, policy)
    if rejection is not None:
        return AssociateRJ.because(rejection)
    identity = request.user_item(UserIdentityNegotiation)
    if identity is not None:
        accepted, reply = await _verify(port, identity)
        if not accepted:
            return AssociateRJ.because(Rejection.NO_REASON_GIVEN)
        if reply is not None:
            acceptor.add_negotiation_item(reply)
    objection = policy.admit()
    if objection is not None:
        LOGGER.warning("There is no room for an association: %s", objection)
        return AssociateRJ.because(Rejection.LOCAL_LIMIT_EXCEEDED)
    await _extend(port, request, acceptor, policy.operations_window)
    malformed = [each.context_id for each in request.presentation_contexts if each.result]
    if malformed:
        LOGGER.warning("Presentation contexts %s are malformed, and rejected", malformed)
    negotiate = negotiate_unrestricted if policy.unrestricted_storage else negotiate_as_acceptor
    contexts, roles = negotiate(
        request.presentation_contexts, acceptor.supported_contexts, _roles(request)
    )
    for role in roles:
        acceptor.add_negotiation_item(role)
    return AssociateAC.answering(request, contexts, acceptor.user_information)


def _unwelcome(request: AssociateRQ, policy: Policy) -> Rejection | None:
    if not request.protocol_version & 1:
        return Rejection.PROTOCOL_VERSION_NOT_SUPPORTED
    if request.application_context_name != APPLICATION_CONTEXT_NAME:
        return Rejection.APPLICATION_CONTEXT_NOT_SUPPORTED
    if policy.called_ae_title not in (None, request.called_ae_title):
        return Rejection.CALLED_AE_TITLE_NOT_RECOGNIZED
    if policy.calling_ae_titles and request.calling_ae_title not in policy.calling_ae_titles:
        return Rejection.CALLING_AE_TITLE_NOT_RECOGNIZED
    return None


def _roles(pdu: AssociateRQ | AssociateAC) -> dict[UID, tuple[bool | None, bool | None]]:
    return {
        item.sop_class_uid: (item.scu_role, item.scp_role)
        for item in pdu.user_information
        if isinstance(item, SCP_SCU_RoleSelectionNegotiation) and item.sop_class_uid is not None
    }


async def _verify(
    port: Port, identity: UserIdentityNegotiation
) -> tuple[bool, UserIdentityNegotiation | None]:
    """Ask the handler whether to accept the user; return its server response too, if one is sent.

    PS3.7 Annex D.3.3.7.
    """
    if not port.bound(evt.EVT_USER_ID):
        return True, None
    attributes = {
        "user_id_type": identity.user_identity_type,
        "primary_field": identity.primary_field,
        "secondary_field": identity.secondary_field,
    }
    try:
        accepted, response = await port.intervene(evt.EVT_USER_ID, attributes)
    except AssociationFailure:
        raise
    except Exception:
        LOGGER.exception("The handler of evt.EVT_USER_ID failed, the user is rejected")
        return False, None
    if not accepted:
        return False, None
    if (
        response is None
        or not identity.positive_response_requested
        or identity.user_identity_type not in _IDENTITIES_WITH_RESPONSE
    ):
        return True, None
    reply = UserIdentityNegotiation(server_response=response)
    return True, reply if _is_sendable(reply, evt.EVT_USER_ID) else None


def _is_sendable(reply: UserItem, event: evt.InterventionEvent) -> bool:
    """Return whether the reply of a handler can be encoded; log why not."""
    try:
        reply.encode()
    except (TypeError, ValueError) as error:
        LOGGER.error("The answer of the handler of evt.%s is not sent: %s", event.name, error)
        return False
    return True


async def _extend(
    port: Port, request: AssociateRQ, acceptor: ServiceUser, operations_window: int
) -> None:
    """Negotiate the window and extended negotiation (PS3.7 Annex D.3.3.3, .5 and .6)."""
    items = request.user_information
    window = request.user_item(AsynchronousOperationsWindowNegotiation)
    if window is not None:
        await _grant_window(port, window, acceptor, operations_window)
    information = {
        item.sop_class_uid: item.service_class_application_information
        for item in items
        if isinstance(item, SOPClassExtendedNegotiation)
    }
    answers = await _negotiate(port, evt.EVT_SOP_EXTENDED, {"app_info": information})
    for uid, data in answers.items():
        reply = SOPClassExtendedNegotiation(uid, data)
        if _is_sendable(reply, evt.EVT_SOP_EXTENDED):
            acceptor.add_negotiation_item(reply)
    common = {
        item.sop_class_uid: item
        for item in items
        if isinstance(item, SOPClassCommonExtendedNegotiation)
    }
    taken = await _negotiate(port, evt.EVT_SOP_COMMON, {"items": common})
    acceptor.accept_common_extended(
        {uid: item for uid, item in taken.items() if uid in common and item == common[uid]}
    )


async def _grant_window(
    port: Port,
    asked: AsynchronousOperationsWindowNegotiation,
    acceptor: ServiceUser,
    most: int,
) -> None:
    """Grant the requestor a number of outstanding operations: at most as many as it asks for.

    We send one request at a time ourselves. No answer means one (PS3.7 Annex D.3.3.3).
    """
    invoked = asked.maximum_number_operations_invoked
    performed = asked.maximum_number_operations_performed
    is_bound = (invoked, performed) != (1, 1) and port.bound(evt.EVT_ASYNC_OPS)
    if is_bound:
        await _negotiate(
            port, evt.EVT_ASYNC_OPS, {"nr_invoked": invoked, "nr_performed": performed}
        )
    granted = min(invoked or most, most)  # a request for 0 is one for any number
    if is_bound or granted > 1:
        acceptor.add_negotiation_item(AsynchronousOperationsWindowNegotiation(granted, 1))


async def _negotiate(
    port: Port, event: evt.InterventionEvent, attributes: dict[str, Any]
) -> dict[Any, Any]:
    """Return the dict that the handler returned; an empty one if it failed."""
    try:
        answer = await port.intervene(event, attributes)
    except AssociationFailure:
        raise
    except Exception:
        LOGGER.exception("The handler of evt.%s failed, nothing is negotiated", event.name)
        return {}
    if isinstance(answer, dict):
        return answer
    if event is not evt.EVT_ASYNC_OPS:
        LOGGER.error("The handler of evt.%s returned %s", event.name, type(answer).__name__)
    return {}


def build_request(requestor: ServiceUser, called_ae_title: str) -> AssociateRQ:
    """Return the association request with the proposals of `requestor`.

    Copies the roles of its role selection items into its contexts.
    """
    roles = requestor.role_selection
    contexts = requestor.requested_contexts
    for context in contexts:
        role = roles.get(context.abstract_syntax) if context.abstract_syntax else None
        if role is not None:
            context.scu_role, context.scp_role = bool(role.scu_role), bool(role.scp_role)
    return AssociateRQ(
        called_ae_title=called_ae_title,
        calling_ae_title=requestor.ae_title,
        presentation_contexts=contexts,
        user_information=requestor.user_information,
    )


def conclude_request(request: AssociateRQ, answer: AssociateAC) -> list[PresentationContext]:
    """Return the requested contexts with the results from the acceptor's answer."""
    return negotiate_as_requestor(
        request.presentation_contexts, answer.presentation_contexts, _roles(answer)
    )
