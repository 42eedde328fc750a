"""The commands of `dicomwire node` other than to serve, each with its own arguments and help."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dicomwire.apps import deleting, exporting, forwarding, importing, operating
from dicomwire.apps.console import Console
from dicomwire.node.configuration import Configuration


class Verb(NamedTuple):
    """The first argument of `dicomwire node`, such as `import`."""

    meaning: str
    """In one sentence."""
    notes: str
    """The notes in its help, with the exit codes."""
    examples: Sequence[str]
    """Command lines without `dicomwire`."""
    add: Callable[[ArgumentParser], None]
    """Adds its arguments to a parser."""
    act: Callable[[Configuration, Namespace, Console], int]
    """Returns the exit code."""


VERBS = {
    "delete": Verb(
        "Delete studies, series or instances, also while the archive serves.",
        """\
Nobody finds the objects when this ends. Their files go a minute later, so that retrievals that have
begun can end; at once if no node runs. It asks twice on a terminal.

exit codes: 0 if something was deleted, or allowed; 1 if nothing was; 2 for wrong arguments""",
        (
            "node delete --study 1.2.840.1.5",
            "node delete -c node.toml --series 1.2.840.1.5.2 --reject --yes",
            "node delete --study 1.2.840.1.5 --allow",
        ),
        deleting.add_delete,
        deleting.run_delete,
    ),
    "protect": Verb(
        "Keep studies from being deleted, or list those that are protected.",
        "exit codes: 0 if all is done; 1 if the archive has no such study; 2 for wrong arguments",
        (
            "node protect --study 1.2.840.1.5",
            "node protect",
            "node protect --study 1.2.840.1.5 --release",
        ),
        deleting.add_protect,
        deleting.run_protect,
    ),
    "import": Verb(
        "Bring files of folders and ZIPs into the archive, also while it serves.",
        """\
Each object takes the way of one that is received, with the policy for duplicates and all routes.
An import that was ended, or killed, goes on where it was when the command is repeated. Files that
are no DICOM files, DICOMDIRs and links are passed over.

exit codes: 0 if no file failed; 1 if one did, or the archive cannot store; 2 for wrong arguments;
130 after Ctrl-C""",
        (
            "node import /mnt/old-archive",
            "node import -c node.toml --move --report failed.jsonl incoming/ study.zip",
        ),
        importing.add_import,
        importing.run_import,
    ),
    "send": Verb(
        "Send studies, series or instances to a destination, also while the archive serves.",
        """\
The objects wait in the queue of the routes, and are sent while a node runs. See what
waits with: node tasks

exit codes: 0 if objects will be sent; 1 if the archive has none; 2 for wrong arguments""",
        (
            "node send --study 1.2.840.1.5 --to PACS",
            "node send -c node.toml --series 1.2.840.1.5.2 --series 1.2.840.1.5.3 --to AI",
        ),
        forwarding.add_send,
        forwarding.run_send,
    ),
    "routes": Verb(
        "Show the routes of the configuration, and which of them match an object.",
        """\
A route is a rule that sends objects to destinations: the tables [[routes]] of the configuration.

exit codes: 0 if a route matches, or without --try, if there is one; 1 if not; 2 for wrong
arguments""",
        (
            "node routes -c node.toml",
            "node routes -c node.toml --try image.dcm --from-title CT1 --from-address 10.1.2.3",
        ),
        forwarding.add_routes,
        forwarding.run_routes,
    ),
    "export": Verb(
        "Copy objects out of the archive, into a folder or a ZIP with a DICOMDIR.",
        """\
The names in it have no data of patients. Nothing that exists is changed, and if an object cannot be
read, or is damaged, nothing is exported. The archive may serve meanwhile.

exit codes: 0 if all objects were exported; 1 if none were; 2 for wrong arguments""",
        (
            "node export --study 1.2.840.1.5 --to study.zip",
            "node export -c node.toml --series 1.2.840.1.5.2 --to /media/usb/cd",
        ),
        exporting.add_export,
        exporting.run_export,
    ),
    "stats": Verb(
        "Show what the archive has, in numbers: by modality, by day, its largest studies.",
        "exit codes: 0 if the index could be read; 1 if not; 2 for wrong arguments",
        ("node stats", "node stats -c node.toml --json"),
        lambda parser: None,
        operating.show_statistics,
    ),
}
