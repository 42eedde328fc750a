"""Directives for what the site tells of the code and must not tell otherwise: tables, help texts.

What they show is read from `dicomwire` when the site is built.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, Field, fields
from importlib import import_module
from itertools import groupby
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from dicomwire import __main__ as command
from dicomwire import presentation, status
from dicomwire.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicomwire.node import configuration, keys, services
from dicomwire.node.outgoing import REQUESTED
from dicomwire.protocol.items import DEFAULT_MAX_LENGTH
from dicomwire.protocol.pdu import APPLICATION_CONTEXT_NAME
from dicomwire.registry.services import REGISTRY, Service, sop_class_of
from dicomwire.settings import Settings

Cell = str | nodes.Node


def code(text: str) -> nodes.Node:
    return nodes.literal(text, text)


def table(headings: Iterable[str], rows: Iterable[Iterable[Cell]]) -> nodes.table:
    """Return a table; a cell is a text or a node."""
    headings = list(headings)
    group = nodes.tgroup(cols=len(headings))
    group += [nodes.colspec(colwidth=1) for _ in headings]
    head = nodes.thead()
    head += _row(headings)
    body = nodes.tbody()
    body += [_row(row) for row in rows]
    group += [head, body]
    result = nodes.table()
    result += group
    return result


def definitions(items: Iterable[tuple[Cell, Iterable[Cell]]]) -> nodes.definition_list:
    """Return a definition list; an item is a term, and the paragraphs that explain it."""
    result = nodes.definition_list()
    for term, paragraphs in items:
        item = nodes.definition_list_item("", nodes.term("", "", _cell(term)))
        body = nodes.definition()
        body += [nodes.paragraph("", "", _cell(each)) for each in paragraphs]
        item += body
        result += item
    return result


def _cell(cell: Cell) -> nodes.Node:
    return nodes.Text(cell) if isinstance(cell, str) else cell


def _row(cells: Iterable[Cell]) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        content = nodes.Text(cell) if isinstance(cell, str) else cell
        row += nodes.entry("", nodes.paragraph("", "", content))
    return row


class StatusTable(SphinxDirective):
    """``status-table:: NAME``: a table of `dicomwire.status`, less what any service may answer."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        statuses = getattr(status, self.arguments[0])
        own = {
            number: meaning
            for number, meaning in statuses.items()
            if statuses is status.GENERAL_STATUS or status.GENERAL_STATUS.get(number) != meaning
        }
        return [table(["Status", "Category", "Meaning"], self._rows(own))]

    @staticmethod
    def _rows(statuses: dict[int, status.Meaning]) -> Iterator[list[Cell]]:
        """Yield a row for each run of codes with one meaning."""
        ordered = enumerate(sorted(statuses))
        for _, run in groupby(ordered, lambda each: (each[1] - each[0], statuses[each[1]])):
            codes = [number for _, number in run]
            first, last = f"0x{codes[0]:04X}", f"0x{codes[-1]:04X}"
            category, meaning = statuses[codes[0]]
            yield [code(first if first == last else f"{first} to {last}"), category, meaning]


class SOPClasses(SphinxDirective):
    """``sop-classes:: SERVICE …``: the SOP classes of services; the names are those of the enum."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        services = [Service[name] for name in self.arguments[0].split()]
        rows = [
            [code(sop_class.keyword), code(str(sop_class)), entry.dimse_msg_type]
            for service in services
            for sop_class in service.sop_classes
            for entry in [REGISTRY[sop_class]]
        ]
        if not any(row[2] for row in rows):
            return [table(["Keyword", "UID"], [row[:2] for row in rows])]
        return [table(["Keyword", "UID", "Operation"], rows)]


class ContextLists(SphinxDirective):
    """``context-lists::``: the ready lists of presentation contexts, and how many each has."""

    def run(self) -> list[nodes.Node]:
        names = [name for name in dir(presentation) if name.endswith("PresentationContexts")]
        rows = [[code(name), str(len(getattr(presentation, name)))] for name in names]
        return [table(["List", "Contexts"], rows)]


class SettingsTable(SphinxDirective):
    """``settings-table:: MODULE CLASS``: the fields of a dataclass, with defaults and docs.

    It is a definition list: the meanings are too long for a column.
    """

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        module, name = self.arguments
        docs = ModuleAnalyzer.for_module(module).find_attr_docs()
        kind = getattr(import_module(module), name)
        items: list[tuple[Cell, list[Cell]]] = []
        for field in fields(kind):
            meaning = " ".join(docs[name, field.name]).strip()
            term = f"{field.name} = {_default(field, '(count)' in meaning)}"
            items.append((code(term), [meaning]))
        return [definitions(items)]


def _default(field: Field[Any], is_count: bool) -> str:
    """Return the default as people write it: sizes in MiB and KiB."""
    if field.default is MISSING:
        return f"{field.type}()"
    if isinstance(field.default, int) and not is_count:
        for size, unit in ((1 << 20, "MiB"), (1 << 10, "KiB")):
            if field.default >= size and field.default % size == 0:
                return f"{field.default // size} {unit}"
    return str(field.default)


class NodeKeys(SphinxDirective):
    """``node-keys::``: the keys of a node's configuration; ``node-keys:: destinations``, ``routes``
    or ``notices``: those of one."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        if self.arguments:
            known = {**configuration.LISTS, "destinations": configuration.DESTINATION_KEYS}
            keys = known[self.arguments[0]].values()
            rows = [[code(key.name), key.allowed, key.meaning] for key in keys]
            return [table(["Key", "Allowed", "Meaning"], rows)]
        sections = []
        for name, group in groupby(configuration.KEYS, lambda key: key.table):
            title = f"[{name}]" if name else "At the top"
            section = nodes.section(ids=[f"keys-{name}"], names=[f"keys-{name}"])
            section += nodes.title("", title)
            section += definitions(
                (
                    code(f"{key.name} = {configuration.toml(key.default)}"),
                    [key.meaning, f"Allowed: {key.allowed}."],
                )
                for key in group
            )
            sections.append(section)
        return sections


class Services(SphinxDirective):
    """``services::``: the services, how many SOP classes each has, and what the archive does."""

    def run(self) -> list[nodes.Node]:
        served = {sop_class_of(str(each.abstract_syntax)) for each in _archive_contexts()}
        requested = set(map(sop_class_of, REQUESTED))
        rows = []
        for service in Service:
            if service is Service.MEDIA_STORAGE:  # not on the network
                continue
            classes = service.sop_classes
            roles = {
                # It sends what peers retrieve, and what routes say.
                "SCU": service is Service.STORAGE or requested.intersection(classes),
                "SCP": served.intersection(classes),
            }
            own = " and ".join(role for role, has in roles.items() if has)
            rows.append([service.value, str(len(classes)), "SCU and SCP", own])
        return [table(["Service", "SOP classes", "Library", "Archive"], rows)]


class ArchiveContexts(SphinxDirective):
    """``archive-contexts::``: the presentation contexts that the archive accepts, by syntaxes."""

    def run(self) -> list[nodes.Node]:
        shown: list[nodes.Node] = []
        by_syntaxes = groupby(
            _archive_contexts(), lambda each: (each.scu_role, each.transfer_syntax)
        )
        for (both_roles, syntaxes), contexts in by_syntaxes:
            names = [f"{syntax.name} ({syntax})" for syntax in syntaxes]
            text = f"With the transfer syntaxes {', '.join(names)}"
            text += "; the peer may be SCU and SCP:" if both_roles else "; the peer is SCU:"
            shown.append(nodes.paragraph("", text))
            rows = [
                [each.abstract_syntax.name, code(str(each.abstract_syntax))] for each in contexts
            ]
            shown.append(table(["SOP class", "UID"], rows))
        return shown


def _archive_contexts() -> list[presentation.PresentationContext]:
    return services.contexts()


class AssociationFacts(SphinxDirective):
    """``association-facts::``: identifiers and limits of associations."""

    def run(self) -> list[nodes.Node]:
        settings = Settings()
        rows = [
            ["Application context", APPLICATION_CONTEXT_NAME],
            ["Implementation class UID", str(IMPLEMENTATION_CLASS_UID)],
            ["Implementation version name", IMPLEMENTATION_VERSION_NAME],
            ["Maximum PDU received", f"{DEFAULT_MAX_LENGTH} bytes (maximum_pdu_size)"],
            ["Associations as initiator", "not limited"],
            [
                "Associations as acceptor",
                f"{settings.maximum_associations} (maximum_associations), of which one address or "
                "one calling AE title can have only a part",
            ],
            [
                "Outstanding operations as initiator",
                "1, or the window that the program proposes and the peer grants",
            ],
            [
                "Outstanding operations as acceptor",
                f"{settings.operations_window} (operations_window), performed in their order",
            ],
        ]
        return [table(["Fact", "Value"], rows)]


class QueryKeys(SphinxDirective):
    """``query-keys::``: the attributes that a query to the archive may have as keys, by level."""

    uses: ClassVar[dict[keys.Use, str]] = {
        keys.Use.UNIQUE: "unique",
        keys.Use.REQUIRED: "required",
        keys.Use.OPTIONAL: "optional",
        keys.Use.COMPUTED: "optional, computed for each query",
    }

    def run(self) -> list[nodes.Node]:
        sections = []
        for level in keys.Level:
            section = nodes.section(ids=[f"level-{level.value}"], names=[level.value])
            section += nodes.title("", level.value)
            rows = [
                [code(key.keyword), str(key.tag), key.vr, self.uses[key.use]]
                for key in keys.QUERY_KEYS.values()
                if key.level is level
            ]
            section += table(["Keyword", "Tag", "VR", "Type"], rows)
            sections.append(section)
        return sections


class Applications(SphinxDirective):
    """``applications::``: a section for each application, with its help text."""

    has_content = False
    columns: ClassVar[str] = "84"

    def run(self) -> list[nodes.Node]:
        sections = []
        for name, purpose in command.APPS.items():
            section = nodes.section(ids=[f"app-{name}"], names=[name])
            section += nodes.title("", name)
            section += nodes.paragraph("", f"{purpose[0].upper()}{purpose[1:]}.")
            section += nodes.literal_block("", self._help(name), language="text")
            sections.append(section)
        return sections

    def _help(self, name: str) -> str:
        text = io.StringIO()
        before = os.environ.get("COLUMNS")
        os.environ["COLUMNS"] = self.columns
        try:
            with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
                command.main([name, "--help"])
        finally:
            del os.environ["COLUMNS"]
            if before is not None:
                os.environ["COLUMNS"] = before
        return text.getvalue().rstrip()


def _prepare(app: Sphinx, what: str, name: str, obj: object, options: Any, lines: Any) -> None:
    """Make of docstrings what the site is to say, before they are taken for numpydoc."""
    if what == "module":
        lines.clear()  # that is for those who read the code
    elif what in ("attribute", "property") and lines:
        lines[0] = lines[0].replace(": ", " \N{EN DASH} ")  # what is before it is no type


def _drop_empty_heads(app: Sphinx, tree: nodes.document) -> None:
    """Leave tables without headings, which Markdown does not know, without a row for them."""
    for head in list(tree.findall(nodes.thead)):
        if not head.astext().strip():
            head.parent.remove(head)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", _prepare, priority=100)
    app.connect("doctree-read", _drop_empty_heads)
    app.add_directive("status-table", StatusTable)
    app.add_directive("sop-classes", SOPClasses)
    app.add_directive("context-lists", ContextLists)
    app.add_directive("settings-table", SettingsTable)
    app.add_directive("node-keys", NodeKeys)
    app.add_directive("applications", Applications)
    app.add_directive("services", Services)
    app.add_directive("archive-contexts", ArchiveContexts)
    app.add_directive("association-facts", AssociationFacts)
    app.add_directive("query-keys", QueryKeys)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
