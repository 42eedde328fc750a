"""The types of values in a configuration: their checks, and the allowed values in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, GroupedMetadata, Gt, Le, Len
from pydantic import AfterValidator, PlainValidator, Strict, ValidationInfo

from dicomwire.utils import set_title

Network = IPv4Network | IPv6Network
_LONGEST_GRACE = 3600
"""In seconds; an hour is far more than any association needs to end."""
_has_no_password = re.compile(
    r"postgresql(\+psycopg)?://([^:/?#@]*@)?[^/?#@]*(/[^?#]*)?(\?((?!password=)[^#&]+&?)*)?"
).fullmatch
"""Whether a text is a URL of PostgreSQL without a password, which would be visible to others in the
list of processes, in logs and in copies of the file."""
_is_bucket = re.compile(r"(s3|gs|az)://[^/?#@\s\0]+(/[^?#\s\0]*)?").fullmatch


class ConfigurationError(ValueError):
    """An invalid configuration; the text names the file, the key and the allowed values."""


class Allowed(GroupedMetadata):
    """The allowed values of a type: in words, for errors, and as pydantic's checks."""

    def __init__(self, text: str, *checks: object) -> None:
        self.text = text
        self._checks = checks

    def __iter__(self) -> Iterator[object]:
        return iter(self._checks)


_is_web = re.compile(r"https?://[^/@\s?#]+(/[^@\s?#]*)?").fullmatch


def whole(noun: str, least: int, most: int) -> Allowed:
    return Allowed(f"{noun}, {least} to {most}", Strict(), Ge(least), Le(most))


def one_of(values: type[Enum]) -> Allowed:
    return Allowed(" or ".join(f'"{each.value}"' for each in values))


def _text(text: str) -> str:
    if "\0" in text:
        raise ValueError("a null character")
    return text


def _path(path: object, info: ValidationInfo) -> Path:
    if not path or not isinstance(path, str | Path):
        raise ValueError("no path")
    try:
        return (info.context or Path()) / Path(_text(str(path))).expanduser()
    except RuntimeError:  # "~name", and there is no such user
        raise ValueError("no such user") from None


def _file(path: str, info: ValidationInfo) -> str:
    return str(_path(path, info)) if path else ""


def _database(text: str) -> str:
    # Not more: the configuration is read without SQLAlchemy, which checks the rest.
    if text and not _has_no_password(text):
        raise ValueError("not a URL of PostgreSQL")
    return text


def _objects_url(url: str, info: ValidationInfo) -> str:
    if url.startswith("file://"):
        return f"file://{_path(url.removeprefix('file://'), info)}"
    if url and not _is_bucket(url):
        raise ValueError("no URL of a bucket")
    return url


def _web_url(url: str) -> str:
    if url and not _is_web(url):
        raise ValueError("no URL of HTTP")
    return url


def network(value: object) -> Network:
    return ip_network(str(value))


TITLE = Allowed(
    "an AE title, 1 to 16 ASCII characters",
    AfterValidator(lambda text: set_title(text, "title").strip()),
)
FLAG = Allowed("true or false", Strict())
SECONDS = Allowed("a number of seconds above 0, or inf", Strict(), Gt(0))
DAYS = Allowed("a number of days above 0, or inf", Strict(), Gt(0))
GRACE = Allowed(f"a number of seconds, 0 to {_LONGEST_GRACE}", Strict(), Ge(0), Le(_LONGEST_GRACE))
SECONDS_OF_REQUESTS = Allowed("a number of seconds, 1 to 3600", Strict(), Ge(1), Le(3600))
PORT = whole("a port number", 1, 65535)
HOST = Allowed("a host name or an address", Len(1), AfterValidator(_text))
ADDRESS = Allowed('an address of this machine, or "" for all', AfterValidator(_text))
INDEX = Allowed(
    'postgresql+psycopg://USER@HOST/DATABASE without a password, or "" for SQLite in the folder',
    AfterValidator(_database),
)
FOLDER = Allowed("a path", PlainValidator(_path))
PLACE = Allowed(
    '"" for the folder, or a URL: s3://bucket/prefix, gs://…, az://… or file:///folder',
    AfterValidator(_objects_url),
)
WEB = Allowed(
    'a URL of http or https without a user, such as https://pacs.example.org/dicom-web, or ""',
    AfterValidator(_web_url),
)
FILE = Allowed('a path, or "" for none', AfterValidator(_file))

Title = Annotated[str, TITLE]


def without_password(text: str) -> str:
    """Return a text for errors: of a URL only the beginning, since the rest may have a password."""
    scheme, separator, _ = text.partition("://")
    return f"{scheme}://…" if separator else text
