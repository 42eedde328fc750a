"""Presentation contexts: an abstract syntax with its transfer syntaxes.

Programs and PDUs use the same class. The rules of negotiation are in `negotiation`.
"""

from __future__ import annotations

import logging
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from dicomwire.registry import uids
from dicomwire.registry.tables import ALL_TRANSFER_SYNTAXES
from dicomwire.registry.uids import UID_LENGTH as UID_LENGTH
from dicomwire.registry.uids import is_private, is_valid, looked_up
from dicomwire.registry.uids import quick_uid as quick_uid

if TYPE_CHECKING:
    from pydicom.uid import UID

LOGGER = logging.getLogger(__name__)


MaybeNone: TypeAlias = Any
"""In annotations: the value may be None, but not where programs use it. For example, all contexts
of an association have an abstract syntax, and a context that was just made does not. Type checkers
then do not ask programs to check for None."""


class Result(IntEnum):
    """Result/Reason of a presentation context item in an A-ASSOCIATE-AC (PS3.8 Table 9-18)."""

    ACCEPTANCE = 0
    USER_REJECTION = 1
    PROVIDER_REJECTION = 2
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


_STATUS: dict[int | None, str] = {
    None: "Pending",
    Result.ACCEPTANCE: "Accepted",
    Result.USER_REJECTION: "User Rejected",
    Result.PROVIDER_REJECTION: "Provider Rejected",
    Result.ABSTRACT_SYNTAX_NOT_SUPPORTED: "Abstract Syntax Not Supported",
    Result.TRANSFER_SYNTAXES_NOT_SUPPORTED: "Transfer Syntax(es) Not Supported",
}

_ROLES = {
    (True, True): "SCU and SCP",
    (True, False): "SCU only",
    (False, True): "SCP only",
    (False, False): "(none)",
}


_TRANSFER_SYNTAXES = frozenset(ALL_TRANSFER_SYNTAXES)


def as_uid(value: str | bytes | UID, name: str) -> UID:
    """Return `value` as a UID without its padding; only its length and alphabet are checked.

    Raises
    ------
    TypeError
        If `value` is neither text nor bytes.
    ValueError
        If it is empty, longer than 64 characters, or not ASCII.
    """
    if isinstance(value, bytes):
        value = value.decode("latin-1")  # never fails, so that the checks below report bad bytes
    elif not isinstance(value, str):
        raise TypeError(f"{name}: a UID is str, bytes or UID, not {type(value).__name__}")
    stripped = value.strip(" \0")
    if not 0 < len(stripped) <= UID_LENGTH or not stripped.isascii():
        raise ValueError(f"{name}: a UID has 1 to {UID_LENGTH} ASCII characters, not {value!r}")
    if isinstance(value, uids.made_as) and len(stripped) == len(value):
        return value  # type: ignore[return-value]  # the same object: it may carry the encoding of a private transfer syntax
    return quick_uid(stripped)


class PresentationContextTuple(NamedTuple):
    """The presentation context of a message, in the form that handlers receive."""

    context_id: int
    abstract_syntax: UID
    transfer_syntax: UID


class PresentationContext:
    """A presentation context, proposed, supported or negotiated (PS3.8 Section 7.1.1.13).

    Attributes
    ----------
    result : int or None
        The acceptor's answer, one of `Result`; None before the answer.
    """

    __slots__ = (
        "_abstract_syntax",
        "_as_scp",
        "_as_scu",
        "_context_id",
        "_scp_role",
        "_scp_unanswered",
        "_scu_role",
        "_transfer_syntax",
        "result",
    )

    def __init__(self) -> None:
        self._context_id: int | None = None
        self._abstract_syntax: UID | None = None
        self._transfer_syntax: list[UID] = []
        self.result: int | None = None
        self._scu_role: bool | None = None
        self._scp_role: bool | None = None
        self._as_scu: bool | None = None
        self._as_scp: bool | None = None
        self._scp_unanswered = False

    @classmethod
    def from_wire(
        cls,
        context_id: int | None,
        abstract_syntax: UID | None,
        transfer_syntax: list[UID],
        result: int | None = None,
    ) -> PresentationContext:
        """Return a context with values that a decoder has checked: no more checks, no warnings."""
        context = cls()
        context._context_id = context_id
        context._abstract_syntax = abstract_syntax
        context._transfer_syntax = transfer_syntax
        context.result = result
        return context

    @property
    def context_id(self) -> int | MaybeNone:
        """The ID of the context in PDUs: an odd number, 1 to 255 (PS3.8 Section 9.3.2.2)."""
        return self._context_id

    @context_id.setter
    def context_id(self, value: int | None) -> None:
        if value is not None:
            if not isinstance(value, int):
                raise TypeError(f"context_id is an int or None, not {type(value).__name__}")
            if not (1 <= value <= 255 and value % 2):
                raise ValueError(f"context_id is an odd number from 1 to 255, not {value}")
        self._context_id = value

    @property
    def abstract_syntax(self) -> UID | MaybeNone:
        """The abstract syntax of the context, usually a SOP class."""
        return self._abstract_syntax

    @abstract_syntax.setter
    def abstract_syntax(self, value: str | bytes | UID) -> None:
        uid = as_uid(value, "abstract_syntax")
        if not is_valid(uid):
            LOGGER.warning("abstract_syntax: %r does not conform to PS3.5", str(uid))
        self._abstract_syntax = uid

    @property
    def transfer_syntax(self) -> list[UID]:
        """The transfer syntaxes in order of preference; in an accepted context only one."""
        return self._transfer_syntax

    @transfer_syntax.setter
    def transfer_syntax(self, value: list[Any]) -> None:
        if not isinstance(value, list):
            raise TypeError(f"transfer_syntax is a list, not {type(value).__name__}")
        before = self._transfer_syntax
        self._transfer_syntax = []
        try:
            for syntax in value:
                self.add_transfer_syntax(syntax)
        except ValueError:
            self._transfer_syntax = before
            raise

    def add_transfer_syntax(self, syntax: str | bytes | UID | None) -> None:
        """Append `syntax` unless the context has it; skip, with an error in the log, a non-UID."""
        if syntax is None:
            return
        try:
            uid = as_uid(syntax, "transfer_syntax")
        except TypeError as error:
            LOGGER.error("%s; skipped", error)
            return
        if uid in self._transfer_syntax:
            return
        if not is_valid(uid):
            LOGGER.warning("transfer_syntax: %r does not conform to PS3.5", str(uid))
        elif not (
            uid in _TRANSFER_SYNTAXES or is_private(uid) or looked_up(uid).is_transfer_syntax
        ):
            LOGGER.warning("transfer_syntax: %s is not a transfer syntax", looked_up(uid).name)
        self._transfer_syntax.append(uid)

    @property
    def scu_role(self) -> bool | None:
        """Whether the requestor may be SCU, as proposed or supported; None: not negotiated."""
        return self._scu_role

    @scu_role.setter
    def scu_role(self, value: bool | None) -> None:
        self._scu_role = _role(value, "scu_role")

    @property
    def scp_role(self) -> bool | None:
        """Whether the requestor may be SCP, as proposed or supported; None: not negotiated."""
        return self._scp_role

    @scp_role.setter
    def scp_role(self, value: bool | None) -> None:
        self._scp_role = _role(value, "scp_role")

    @property
    def as_scu(self) -> bool | None:
        """Whether this side may act as SCU; None before negotiation (PS3.7 Annex D.3.3.4)."""
        return self._as_scu

    @property
    def as_scp(self) -> bool | None:
        """Whether this side may act as SCP; None before negotiation (PS3.7 Annex D.3.3.4)."""
        return self._as_scp

    @property
    def scp_unanswered(self) -> bool:
        """Whether this side proposed to be SCP, and the acceptor answered no role proposal at all.

        Without an answer the default roles apply (PS3.7 Annex D.3.3.4), but some acceptors that
        do not answer act by the proposed roles.
        """
        return self._scp_unanswered

    def become_scp(self) -> None:
        """Take the SCP role, because the peer uses the proposed roles without having answered."""
        self._as_scp, self._scp_unanswered = True, False

    @property
    def as_tuple(self) -> PresentationContextTuple:
        """The accepted context in the form that handlers receive."""
        # An accepted context has all three values; the types of the attributes cannot express it.
        return PresentationContextTuple(
            self._context_id,  # type: ignore[arg-type]
            self._abstract_syntax,  # type: ignore[arg-type]
            self._transfer_syntax[0],
        )

    @property
    def status(self) -> str:
        """The result in words."""
        return _STATUS.get(self.result, "Unknown")

    def _key(self) -> tuple[object, ...]:
        return (
            self._context_id,
            self._abstract_syntax,
            tuple(self._transfer_syntax),
            self.result,
            self._scu_role,
            self._scp_role,
            self._as_scu,
            self._as_scp,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PresentationContext):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __deepcopy__(self, memo: dict[int, Any]) -> PresentationContext:
        return self.copied()

    def copied(self) -> PresentationContext:
        """Return a copy."""
        # It shares the UIDs: to copy one, pydicom would validate it and warn again.
        other = self.from_wire(
            self._context_id, self._abstract_syntax, list(self._transfer_syntax), self.result
        )
        other._scu_role, other._scp_role = self._scu_role, self._scp_role
        other._as_scu, other._as_scp = self._as_scu, self._as_scp
        other._scp_unanswered = self._scp_unanswered
        return other

    def __repr__(self) -> str:
        if self._abstract_syntax is None:
            return "PresentationContext()"
        number = "" if self._context_id is None else f" {self._context_id}"
        result = "" if self.result is None else f", {self.status}"
        syntaxes = ", ".join(map(_name, self._transfer_syntax)) or "no transfer syntax"
        return f"<PresentationContext{number}: {_name(self._abstract_syntax)}{result}, {syntaxes}>"

    def __str__(self) -> str:
        lines = []
        if self._context_id is not None:
            lines.append(f"ID: {self._context_id}")
        if self._abstract_syntax is not None:
            lines.append(f"Abstract Syntax: {_name(self._abstract_syntax)}")
        lines.append("Transfer Syntax(es):")
        lines += [f"    ={_name(syntax)}" for syntax in self._transfer_syntax] or ["    (none)"]
        if self.result is not None:
            lines.append(f"Result: {self.status}")
        if self._as_scu is not None and self._as_scp is not None:
            lines.append(f"Role: {_ROLES[self._as_scu, self._as_scp]}")
        return "\n".join(lines)


def _role(value: bool | None, name: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name} is a bool or None, not {type(value).__name__}")
    return value


def _name(uid: str) -> str:
    """Return the name of `uid`, with control characters escaped: a peer may have chosen it."""
    name = looked_up(uid).name
    return name if name.isprintable() else ascii(name)[1:-1]
