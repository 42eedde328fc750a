"""The two lists of presentation contexts of an AE: checks and changes.

Plain functions over lists of contexts; `protocol.negotiation` accepts and rejects contexts.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import TYPE_CHECKING

from dicomwire.protocol.context import PresentationContext, as_uid
from dicomwire.protocol.items import SCP_SCU_RoleSelectionNegotiation
from dicomwire.registry.services import REGISTRY
from dicomwire.registry.tables import CONTEXT_LISTS, DEFAULT_TRANSFER_SYNTAXES
from dicomwire.registry.uids import quick_uid

if TYPE_CHECKING:
    from pydicom.uid import UID

MAXIMUM_REQUESTED = 128
"""Context ids are the odd numbers from 1 to 255 (PS3.8 Section 9.3.2.2)."""


def build_context(
    abstract_syntax: str | UID,
    transfer_syntax: str | UID | list[str | UID] | None = None,
) -> PresentationContext:
    """Return a context to propose or support (PS3.8 Section 7.1.1.13).

    Parameters
    ----------
    abstract_syntax : str or UID
        The abstract syntax, usually a SOP class.
    transfer_syntax : str or UID or list of them, optional
        The transfer syntaxes in order of preference; default `DEFAULT_TRANSFER_SYNTAXES`.

    Raises
    ------
    ValueError
        For a UID that is empty, longer than 64 characters, or not ASCII.
    """
    context = PresentationContext()
    context.abstract_syntax = abstract_syntax
    if transfer_syntax is None:
        transfer_syntax = [*DEFAULT_TRANSFER_SYNTAXES]
    elif isinstance(transfer_syntax, str):
        transfer_syntax = [transfer_syntax]
    context.transfer_syntax = transfer_syntax
    return context


def build_role(
    uid: str | UID, scu_role: bool = False, scp_role: bool = False
) -> SCP_SCU_RoleSelectionNegotiation:
    """Return a proposal of the requestor's roles for a SOP class (PS3.7 Annex D.3.3.4).

    At least one role must be true when the proposal is sent.
    """
    return SCP_SCU_RoleSelectionNegotiation(as_uid(uid, "uid"), scu_role, scp_role)


def listed_contexts(name: str) -> list[PresentationContext]:
    """Return new contexts for the SOP classes of a list of the tables, such as "AllStorage"."""
    syntaxes = [quick_uid(uid) for uid in DEFAULT_TRANSFER_SYNTAXES]
    return [
        PresentationContext.from_wire(None, REGISTRY[uid].sop_class, [*syntaxes])
        for uid in CONTEXT_LISTS[f"{name}PresentationContexts"]
    ]


def check_contexts(contexts: Iterable[PresentationContext] | None) -> list[PresentationContext]:
    """Return `contexts` as a list, empty for None; ValueError if an item is not a context."""
    checked = list(contexts or ())
    if not all(map(isinstance, checked, repeat(PresentationContext))):
        raise ValueError("contexts must be a list of PresentationContext")
    return checked


def check_count(contexts: list[PresentationContext]) -> None:
    """Raise ValueError for more contexts than one association can request."""
    if len(contexts) > MAXIMUM_REQUESTED:
        raise ValueError(
            f"{len(contexts)} requested presentation contexts, "
            f"an association has at most {MAXIMUM_REQUESTED}"
        )


def bare_copy(context: PresentationContext, context_id: int | None = None) -> PresentationContext:
    """Return a context of the same syntaxes, without result and roles, and with that id."""
    abstract_syntax = context.abstract_syntax
    if abstract_syntax is None:
        raise ValueError("a presentation context has no abstract syntax")
    return PresentationContext.from_wire(context_id, abstract_syntax, [*context.transfer_syntax])


def numbered(contexts: Iterable[PresentationContext]) -> list[PresentationContext]:
    """Return copies for an association request, with the ids 1, 3, 5 …; roles are kept.

    Raises
    ------
    ValueError
        If an item is not a context, or for more than 128.
    """
    checked = check_contexts(contexts)
    check_count(checked)
    copies = []
    for index, context in enumerate(checked):
        copy = bare_copy(context, 2 * index + 1)
        if (roles := (context.scu_role, context.scp_role)) != (None, None):
            copy.scu_role, copy.scp_role = roles
        copies.append(copy)
    return copies


def merged(
    contexts: list[PresentationContext], additions: Iterable[PresentationContext]
) -> list[PresentationContext]:
    """Return supported contexts with `additions`: one for each abstract syntax, sorted by UID.

    New transfer syntaxes come after the present ones; the roles are those of the addition.
    """
    by_uid = {context.abstract_syntax or "": context for context in contexts}
    for addition in additions:
        known = by_uid.setdefault(addition.abstract_syntax or "", addition)
        if known is not addition:
            syntaxes = known.transfer_syntax
            syntaxes += [syntax for syntax in addition.transfer_syntax if syntax not in syntaxes]
            known.scu_role, known.scp_role = addition.scu_role, addition.scp_role
    return [by_uid[uid] for uid in sorted(by_uid)]


def without(
    contexts: list[PresentationContext],
    abstract_syntax: str,
    transfer_syntax: str | Iterable[str] | None = None,
) -> list[PresentationContext]:
    """Return `contexts` without `abstract_syntax`, or without its `transfer_syntax`.

    A context without any transfer syntax left is removed too. A missing syntax is no error.
    """
    if transfer_syntax is None:
        return [context for context in contexts if context.abstract_syntax != abstract_syntax]
    gone = {transfer_syntax} if isinstance(transfer_syntax, str) else set(transfer_syntax)
    remaining = []
    for context in contexts:
        if context.abstract_syntax == abstract_syntax:
            syntaxes = context.transfer_syntax
            syntaxes[:] = [syntax for syntax in syntaxes if syntax not in gone]
            if not syntaxes:
                continue
        remaining.append(context)
    return remaining
