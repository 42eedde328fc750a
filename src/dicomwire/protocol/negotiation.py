"""Negotiates presentation contexts and roles, for an acceptor and for a requestor.

All functions are pure: they read contexts and return new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from dicomwire.protocol.context import PresentationContext, Result
from dicomwire.protocol.items import SCP_SCU_RoleSelectionNegotiation
from dicomwire.registry.services import REGISTRY, Service
from dicomwire.registry.tables import UnifiedProcedureStepPush
from dicomwire.registry.uids import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

if TYPE_CHECKING:
    from pydicom.uid import UID

Roles: TypeAlias = tuple[bool | None, bool | None]
"""(SCU, SCP) roles of the requestor, proposed or supported; None where a role is not negotiated."""


class Outcome(NamedTuple):
    """The roles that each side of an association may take in a presentation context."""

    requestor_as_scu: bool
    requestor_as_scp: bool
    acceptor_as_scu: bool
    acceptor_as_scp: bool


DEFAULT_ROLE = Outcome(True, False, False, True)
BOTH_SCU_SCP_ROLE = Outcome(True, True, True, True)
INVERTED_ROLE = Outcome(False, True, True, False)
CONTEXT_REJECTED = Outcome(False, False, False, False)

_BOTH, _SCU, _SCP, _NEITHER = (True, True), (True, False), (False, True), (False, False)


def _granted(proposed: Roles, supported: Roles) -> Outcome:
    """Return the outcome of PS3.7 Section D.3.3.4: the roles that both sides want."""
    if None in proposed or None in supported:
        return DEFAULT_ROLE
    scu = bool(proposed[0] and supported[0])
    scp = bool(proposed[1] and supported[1])
    return Outcome(scu, scp, scp, scu)


SCP_SCU_ROLES: dict[Roles, dict[Roles, Outcome]] = {
    proposed: {
        (scu, scp): _granted(proposed, (scu, scp))
        for scu in (None, True, False)
        for scp in (None, True, False)
    }
    for proposed in (_BOTH, _SCU, _SCP, _NEITHER, (None, None))
}
"""The outcome by proposed and supported roles; None on either side gives the default roles."""


def _outcome(proposed: Roles, supported: Roles) -> Outcome:
    # A proposal of only one of the two roles counts as no proposal.
    return SCP_SCU_ROLES.get(proposed, {}).get(supported, DEFAULT_ROLE)


# -- the acceptor ---------------------------------------------------------------------------------


class _Offer(NamedTuple):
    """The transfer syntaxes and roles that an acceptor supports for one requested context."""

    transfer_syntaxes: list[UID]
    supported: Roles
    unasked: Outcome = DEFAULT_ROLE  # the outcome if the requestor proposes no roles


def negotiate_as_acceptor(
    rq_contexts: list[PresentationContext],
    ac_contexts: list[PresentationContext],
    roles: dict[UID, Roles] | None = None,
) -> tuple[list[PresentationContext], list[SCP_SCU_RoleSelectionNegotiation]]:
    """Return the acceptor's answer to requested contexts (PS3.8 Section 9.3.3.2).

    The acceptor's order decides: an accepted context gets the first transfer syntax in
    `ac_contexts` that was proposed. A rejected context keeps the first proposed transfer syntax,
    because the answer must contain one; it has no meaning.

    Parameters
    ----------
    rq_contexts : list of PresentationContext
        The contexts that the requestor proposes.
    ac_contexts : list of PresentationContext
        The contexts that the acceptor supports, with the roles that it allows the requestor.
    roles : dict, optional
        The (scu, scp) roles that the requestor proposes by SOP class UID.

    Returns
    -------
    tuple
        The requested contexts with their results, in order of ID, and the role selection replies.
    """
    supported = _by_abstract_syntax(ac_contexts)
    return _answer(rq_contexts, lambda requested: _own_offer(supported, requested), roles or {})


def negotiate_unrestricted(
    rq_contexts: list[PresentationContext],
    ac_contexts: list[PresentationContext],
    roles: dict[UID, Roles] | None = None,
) -> tuple[list[PresentationContext], list[SCP_SCU_RoleSelectionNegotiation]]:
    """Return the answer of an acceptor that stores objects of any SOP class.

    Storage, private and unknown abstract syntaxes are accepted with their first proposed transfer
    syntax and any roles. For other services, `negotiate_as_acceptor` describes the answer.
    """
    supported = _by_abstract_syntax(ac_contexts)

    def offer_for(requested: PresentationContext) -> _Offer | None:
        entry = REGISTRY.get(requested.abstract_syntax or "")
        if entry is not None and entry.service is not Service.STORAGE:
            return _own_offer(supported, requested)
        return _Offer(requested.transfer_syntax, _BOTH, unasked=BOTH_SCU_SCP_ROLE)

    return _answer(rq_contexts, offer_for, roles or {})


_ABSTRACT_SYNTAX = attrgetter("_abstract_syntax")


def _by_abstract_syntax(
    contexts: list[PresentationContext],
) -> dict[UID | None, PresentationContext]:
    # A fast form: a server often supports over a hundred contexts, and each association needs this.
    return dict(zip(map(_ABSTRACT_SYNTAX, contexts), contexts, strict=True))


def _own_offer(
    supported: dict[UID | None, PresentationContext], requested: PresentationContext
) -> _Offer | None:
    context = supported.get(requested.abstract_syntax)
    if context is None:
        return None
    return _Offer(context.transfer_syntax, (context.scu_role, context.scp_role))


def _answer(
    rq_contexts: list[PresentationContext],
    offer_for: Callable[[PresentationContext], _Offer | None],
    roles: dict[UID, Roles],
) -> tuple[list[PresentationContext], list[SCP_SCU_RoleSelectionNegotiation]]:
    """Return the result of each requested context, and one role reply for each SOP class."""
    results = []
    replies = {}
    for requested in sorted(rq_contexts, key=_id):
        uid = requested.abstract_syntax
        offer = offer_for(requested)
        proposed = roles.get(uid) if uid is not None else None
        context = _answer_one(requested, offer, proposed)
        results.append(context)
        if context.result == Result.ACCEPTANCE and offer is not None and proposed is not None:
            selection = _role_reply(uid, proposed, offer.supported)
            if selection is not None:
                replies[uid] = selection
    return results, list(replies.values())


def _answer_one(
    requested: PresentationContext, offer: _Offer | None, proposed: Roles | None
) -> PresentationContext:
    """Return the result of one requested context."""
    if requested.result is not None:  # the decoder found it invalid
        return _rejected(requested, requested.result)
    if offer is None:
        return _rejected(requested, Result.ABSTRACT_SYNTAX_NOT_SUPPORTED)
    among = set(requested.transfer_syntax)
    syntax = next((uid for uid in offer.transfer_syntaxes if uid in among), None)
    if syntax is None:
        return _rejected(requested, Result.TRANSFER_SYNTAXES_NOT_SUPPORTED)
    outcome = offer.unasked if proposed is None else _outcome(proposed, offer.supported)
    if outcome == CONTEXT_REJECTED:
        return _rejected(requested, Result.USER_REJECTION)
    return _accepted(requested, syntax, outcome.acceptor_as_scu, outcome.acceptor_as_scp)


def _role_reply(
    uid: UID | None, proposed: Roles, supported: Roles
) -> SCP_SCU_RoleSelectionNegotiation | None:
    """Return the roles that the acceptor grants; None if one side does not negotiate roles."""
    if None in proposed or None in supported:
        return None
    granted = _granted(proposed, supported)
    return SCP_SCU_RoleSelectionNegotiation(uid, granted.requestor_as_scu, granted.requestor_as_scp)


# -- the requestor --------------------------------------------------------------------------------


def negotiate_as_requestor(
    rq_contexts: list[PresentationContext],
    ac_contexts: list[PresentationContext],
    roles: dict[UID, Roles] | None = None,
) -> list[PresentationContext]:
    """Return the requested contexts with the results of the acceptor's answer.

    Parameters
    ----------
    rq_contexts : list of PresentationContext
        The requested contexts, with the proposed roles.
    ac_contexts : list of PresentationContext
        The acceptor's results. A context without an answer counts as rejected by the provider; one
        accepted with a transfer syntax that was not proposed counts as rejected too.
    roles : dict, optional
        The acceptor's role replies by SOP class UID; without a reply the default roles apply.

    Raises
    ------
    ValueError
        If `rq_contexts` is empty.
    """
    if not rq_contexts:
        raise ValueError("there are no requested presentation contexts")
    answers = {context.context_id: context for context in ac_contexts}
    replies = roles or {}
    results = []
    for requested in sorted(rq_contexts, key=_id):
        answer = answers.get(requested.context_id)
        syntaxes = answer.transfer_syntax if answer is not None else []
        if answer is None or answer.result is None:
            results.append(_rejected(requested, Result.PROVIDER_REJECTION))
        elif answer.result != Result.ACCEPTANCE:
            results.append(_rejected(requested, answer.result))
        elif not syntaxes or syntaxes[0] not in requested.transfer_syntax:
            results.append(_rejected(requested, Result.TRANSFER_SYNTAXES_NOT_SUPPORTED))
        else:
            uid = requested.abstract_syntax
            granted: Roles = replies.get(uid, (None, None)) if uid is not None else (None, None)
            outcome = _outcome((requested.scu_role, requested.scp_role), granted)
            as_scu, as_scp = outcome.requestor_as_scu, outcome.requestor_as_scp
            context = _accepted(requested, syntaxes[0], as_scu, as_scp)
            context._scp_unanswered = bool(requested.scp_role) and not replies
            results.append(context)
    return results


# -- shared by acceptor and requestor -------------------------------------------------------------


def _id(context: PresentationContext) -> int:
    return context.context_id or 0


def _accepted(
    requested: PresentationContext, syntax: UID, as_scu: bool, as_scp: bool
) -> PresentationContext:
    context = PresentationContext.from_wire(
        requested.context_id, requested.abstract_syntax, [syntax], Result.ACCEPTANCE
    )
    context._as_scu, context._as_scp = as_scu, as_scp
    return context


def _rejected(requested: PresentationContext, result: int) -> PresentationContext:
    context = PresentationContext.from_wire(
        requested.context_id, requested.abstract_syntax, requested.transfer_syntax[:1], result
    )
    context._as_scu = context._as_scp = False
    return context


# -- the choice of a context ----------------------------------------------------------------------

# A dataset can be converted between uncompressed transfer syntaxes of the same byte order. To
# change the byte order we would need the VR of each value, and private elements may have none.
_BYTE_ORDER: dict[str, str] = {
    IMPLICIT_VR_LITTLE_ENDIAN: "little",
    EXPLICIT_VR_LITTLE_ENDIAN: "little",
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: "little",
    EXPLICIT_VR_BIG_ENDIAN: "big",
}


def choose_context(
    accepted: Iterable[PresentationContext],
    abstract_syntax: str,
    transfer_syntax: str | None = None,
    *,
    as_scu: bool = False,
) -> PresentationContext | None:
    """Return the first accepted context that can carry a message; None if none can.

    Parameters
    ----------
    accepted : iterable of PresentationContext
        The accepted contexts.
    abstract_syntax : str
        The (Meta) SOP class of the message. If UPS Push has no context, UPS Push messages use the
        context of another UPS SOP class (PS3.4 Annex CC).
    transfer_syntax : str, optional
        The transfer syntax of the dataset; None for any. If no context has it, the dataset can be
        converted to another one: both must be uncompressed and have the same byte order.
    as_scu : bool
        Whether this side must be the SCU.
    """
    fitting = [
        context
        for context in _of_abstract_syntax(list(accepted), abstract_syntax)
        if context.as_scu or not as_scu
    ]
    if transfer_syntax is None:
        return fitting[0] if fitting else None
    for context in fitting:
        if context.transfer_syntax[0] == transfer_syntax:
            return context
    order = _BYTE_ORDER.get(transfer_syntax)
    for context in fitting:
        if order is not None and _BYTE_ORDER.get(context.transfer_syntax[0]) == order:
            return context
    return None


def _of_abstract_syntax(
    contexts: list[PresentationContext], abstract_syntax: str
) -> list[PresentationContext]:
    exact = [context for context in contexts if context.abstract_syntax == abstract_syntax]
    if exact or abstract_syntax != UnifiedProcedureStepPush:
        return exact
    procedure_steps = Service.UNIFIED_PROCEDURE_STEP.sop_classes
    return [context for context in contexts if context.abstract_syntax in procedure_steps]
