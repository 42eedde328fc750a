"""`node delete` and `node protect`: delete objects while nodes serve, and keep studies from it."""

from __future__ import annotations

import json
import re
import secrets
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from dicomwire.apps.archive import needing_extra
from dicomwire.apps.console import Console, Misuse, Stop
from dicomwire.apps.operating import explaining_index, human_size
from dicomwire.logs import counted
from dicomwire.node.configuration import Configuration

if TYPE_CHECKING:
    from dicomwire.node.archive import Archive
    from dicomwire.node.deletion import Deleted
    from dicomwire.node.index.reader import IndexReader
    from dicomwire.node.keys import Level

_is_uid = re.compile(r"[0-9]+(\.[0-9]+)*").fullmatch
_LONGEST_UID = 64


def add_selection(parser: ArgumentParser) -> None:
    """Add the options that name studies, series or instances."""
    for name, noun in (
        ("study", "the study of this UID"),
        ("series", "the series of this UID; with one --study, only there"),
        ("instance", "the instance of this UID"),
    ):
        text = f"{noun}; may be repeated"
        parser.add_argument(f"--{name}", metavar="UID", action="append", help=text)


def add_delete(parser: ArgumentParser) -> None:
    """Add the arguments of `delete`."""
    add_selection(parser)
    for name, text in (
        ("reject", "do not store these instances again"),
        ("allow", "delete nothing, and let rejected instances be stored again"),
        ("protected", "also if the study is protected"),
        ("yes", "do not ask"),
    ):
        parser.add_argument(f"--{name}", action="store_true", help=text)


def add_protect(parser: ArgumentParser) -> None:
    """Add the arguments of `protect`."""
    text = "the study of this UID; may be repeated"
    parser.add_argument("--study", metavar="UID", action="append", help=text)
    text = "protect the studies no longer"
    parser.add_argument("--release", action="store_true", help=text)


class Selection(NamedTuple):
    """The objects that the options name."""

    level: Level
    uids: Sequence[str]
    study_uid: str
    """Only those in this study; "" for any."""


def selection_of(options: Namespace) -> Selection:
    """Return the level and UIDs of --study, --series or --instance; Misuse without a valid UID."""
    from dicomwire.node.keys import Level

    names = {"study": Level.STUDY, "series": Level.SERIES, "instance": Level.IMAGE}
    given = [name for name in names if getattr(options, name, None)]
    if not given:
        raise Misuse("--study, --series or --instance is needed")
    *above, name = given
    if above and (above != ["study"] or len(options.study) > 1):
        raise Misuse(f"--{name} goes with one --study at the most, and nothing else")
    uids = [uid for each in given for uid in getattr(options, each)]
    for uid in uids:
        if not _is_uid(uid) or len(uid) > _LONGEST_UID:
            raise Misuse(f"{uid!r} is no UID")
    return Selection(names[name], getattr(options, name), options.study[0] if above else "")


@contextmanager
def archive_beside(configuration: Configuration, makes: bool = False) -> Iterator[Archive]:
    """Open the archive beside the nodes that serve it, or without any.

    With `makes`, it is made if there is none; otherwise that is an error.
    """
    with needing_extra("node"):
        from dicomwire.node.archive import Archive, FolderUnusable
        from dicomwire.node.index.opening import open_existing

    if not makes:
        open_existing(configuration.index, configuration.folder)
    with explaining_index():
        try:
            archive = Archive(configuration, secrets.token_hex(8), is_first=False)
        except FolderUnusable as error:
            raise Stop(str(error)) from None
        with archive:
            try:
                yield archive
            finally:
                archive.converters.close()


def is_served(index: IndexReader) -> bool:
    """Return whether a node serves an index."""
    from dicomwire.node.nodes import registered

    return any(node.is_alive(time.time()) for node in registered(index))


def run_delete(configuration: Configuration, options: Namespace, console: Console) -> int:
    """Delete objects, or let rejected ones be stored again; return the exit code."""
    with needing_extra("node"):
        from dicomwire.node.carrying import GRACE
        from dicomwire.node.deletion import Protected, allow, delete, remove_now, selected

    level, uids, study_uid = selection_of(options)
    with archive_beside(configuration) as archive:
        if options.allow:
            allowed = allow(archive.index, level, uids)
            told = f"{counted(allowed, 'rejected instance')} may be stored again"
            _tell(options, told, allowed=allowed)
            return 0
        found = selected(archive.index, level, uids, study_uid)
        if found.instances and not (options.yes or _agrees(_in_words(found))):
            print("Nothing is deleted", file=sys.stderr)
            return 1
        serves = is_served(archive.index)
        try:
            done = delete(
                archive.queue,
                level,
                uids,
                study_uid=study_uid,
                rejects=options.reject,
                also_protected=options.protected,
                delay=GRACE if serves else 0.0,
            )
        except Protected as error:
            raise Stop(f"{error}; nothing is deleted without --protected") from None
        if not serves:
            remove_now(archive.queue, archive.store_tasks)
    _tell(options, f"Deleted {_in_words(done)}", **done._asdict())
    return 0 if done.instances else 1


def _agrees(told: str) -> bool:
    """Ask twice on a terminal whether to delete; Misuse if there is none."""
    if not sys.stdin.isatty():
        raise Misuse("delete asks on a terminal: without one, it needs --yes")
    try:
        answer = input(f"Delete {told}? (yes/no) ")
        if answer.strip() != "yes":
            return False
        return (
            input("They cannot be brought back. Type delete to delete them: ").strip() == "delete"
        )
    except EOFError:
        return False


def run_protect(configuration: Configuration, options: Namespace, console: Console) -> int:
    """Protect studies, or do so no longer; without studies, list those that are protected."""
    with needing_extra("node"):
        from dicomwire.node.deletion import Unknown, protect, protected, release

    if options.study:
        selection_of(options)
    elif options.release:
        raise Misuse("protect --release needs --study")
    with archive_beside(configuration) as archive:
        if not options.study:
            uids = protected(archive.index)
            print(json.dumps(uids) if options.json else "\n".join(uids))
        elif options.release:
            count = release(archive.index, options.study)
            told = f"Removed the protection of {counted(count, 'study', 'studies')}"
            _tell(options, told, released=count)
        else:
            try:
                count = protect(archive.index, options.study)
            except Unknown as error:
                raise Stop(f"{error}; nothing is protected") from None
            told = f"Protected {counted(count, 'more study', 'more studies')}"
            _tell(options, told, protected=count)
    return 0


def _in_words(some: Deleted) -> str:
    studies = counted(some.studies, "study", "studies")
    return f"{counted(some.instances, 'object')} of {studies}, {human_size(some.bytes)}"


def _tell(options: Namespace, text: str, **facts: int) -> None:
    print(json.dumps(facts) if options.json else text)
