"""The rules by which objects are forwarded: the tables `[[routes]]` of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le, Len
from pydantic import AfterValidator, PlainValidator, Strict

from dicomwire.node.configuration.allowed import FLAG, Allowed, Title, one_of

if TYPE_CHECKING:
    from dicomwire.node.conditions import Conditions


class When(StrEnum):
    """When objects are forwarded."""

    OBJECT = "object"
    SERIES = "series"
    STUDY = "study"


class Then(StrEnum):
    """What happens to an object that all destinations have."""

    KEEP = "keep"
    DELETE = "delete"


class InvalidCondition(ValueError):
    """A condition that is wrong; the text begins with its name."""


def compiled_conditions(table: object) -> Conditions:
    """Return the conditions of a table; InvalidCondition if one is wrong."""
    from dicomwire.node.conditions import conditions_of  # it needs SQLAlchemy

    if isinstance(table, tuple):  # they are compiled already
        return table
    if not isinstance(table, Mapping):
        raise ValueError("not a table")
    try:
        return conditions_of(table)
    except ValueError as error:
        raise InvalidCondition(str(error)) from None


def _different(titles: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(titles)) < len(titles):
        raise ValueError("a destination twice")
    return titles


@dataclass(frozen=True, slots=True)
class Route:
    """A rule: which objects are sent where, and when."""

    to: Annotated[
        tuple[Title, ...],
        Allowed("a list of names of [destinations]", Len(1), AfterValidator(_different)),
        "The destinations.",
    ]
    name: Annotated[
        str,
        Allowed("a text of up to 64 characters", Len(0, 64)),
        "What the log and other outputs call the route.",
    ] = ""
    when: Annotated[
        When,
        one_of(When),
        "Send each object at once, or all of a series or study when no more objects arrive for it.",
    ] = When.OBJECT
    quiet: Annotated[
        float,
        Allowed("a number of seconds, 1 to 86400", Strict(), Ge(1), Le(86_400)),
        "Seconds without a new object after which a series or study is sent.",
    ] = 60.0
    commit: Annotated[
        bool,
        FLAG,
        "An object counts as sent when the destination has committed to store it (PS3.4 Annex J).",
    ] = False
    then: Annotated[
        Then,
        one_of(Then),
        "What happens to an object that all destinations have; to delete it needs commit = true.",
    ] = Then.KEEP
    conditions: Annotated[
        Any,
        Allowed("a table of conditions", PlainValidator(compiled_conditions)),
        "Attributes of the objects to send, with their values; all have to match.",
    ] = ()
