"""Who is told of complete series and studies: the tables `[[notices]]` of a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from annotated_types import Ge, Le, Len
from pydantic import AfterValidator, PlainValidator, Strict

from dicomwire.node.configuration.allowed import FILE, Allowed, Title, one_of
from dicomwire.node.configuration.routes import compiled_conditions


class Of(StrEnum):
    """What a notice tells of."""

    SERIES = "series"
    STUDY = "study"


def _arguments(command: tuple[str, ...]) -> tuple[str, ...]:
    if command and (not command[0] or "{" in command[0] or any("\0" in each for each in command)):
        raise ValueError("no program")
    return command


def _url(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if text and (scheme not in ("http", "https") or not separator or not rest or " " in text):
        raise ValueError("no URL")
    return text


@dataclass(frozen=True, slots=True)
class Notice:
    """A rule: who is told when a series or study is complete, and how."""

    name: Annotated[
        str,
        Allowed("a text of 1 to 64 characters", Len(1, 64)),
        "What the log, tasks and receivers call the notice; each has a name of its own.",
    ]
    of: Annotated[Of, one_of(Of), "Tell of each study, or of each series."] = Of.STUDY
    quiet: Annotated[
        float,
        Allowed("a number of seconds, 1 to 86400", Strict(), Ge(1), Le(86_400)),
        "Seconds without a new object after which a series or study counts as complete.",
    ] = 60.0
    command: Annotated[
        tuple[str, ...],
        Allowed(
            "a list: the path of a program, and its arguments; [] for none",
            AfterValidator(_arguments),
        ),
        "Run a program, without a shell. In arguments, {study}, {series}, {name} and {id} are "
        "filled in; the standard input is the notice as JSON.",
    ] = ()
    timeout: Annotated[
        float,
        Allowed("a number of seconds, 1 to 86400", Strict(), Ge(1), Le(86_400)),
        "Seconds that the program may run; then it is killed.",
    ] = 300.0
    webhook: Annotated[
        str,
        Allowed('a URL, http://… or https://…, or "" for none', AfterValidator(_url)),
        "Post the notice as JSON. It needs the extra webclient (httpx).",
    ] = ""
    secret_file: Annotated[
        str,
        FILE,
        "A file with the secret in its first line, by which posts are signed (HMAC-SHA256).",
    ] = ""
    available_to: Annotated[
        tuple[Title, ...],
        Allowed("a list of names of [destinations]"),
        "Destinations that get an Instance Availability Notification.",
    ] = ()
    conditions: Annotated[
        Any,
        Allowed("a table of conditions", PlainValidator(compiled_conditions)),
        "As for routes: attributes of an object; one that matches makes its study a subject.",
    ] = ()
