"""SQL that SQLite and PostgreSQL write in different ways, and the column types of both."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ColumnElement, Integer, String, cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

TEXT = String().with_variant(String(collation="C"), "postgresql")
"""Text that is compared by code points, whatever the language of the database. So an index serves
prefixes, and the database sorts as Python does."""
NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""64 bits; in SQLite, each integer has them, and only a primary key of this type is automatic."""
ATTRIBUTES = JSON().with_variant(JSONB, "postgresql")
MOST_INDEXED = 200
"""The most characters of a value in an index of PostgreSQL, which refuses 2,704 bytes and more."""


class indexed(FunctionElement[str]):
    """The part of a text column that is in its index: all of it in SQLite."""

    inherit_cache = True
    type = String()


@compiles(indexed)
def _column(element: Any, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.clauses, **options))


@compiles(indexed, "postgresql")
def _beginning(element: Any, compiler: Any, **options: Any) -> str:
    return f"left({compiler.process(element.clauses, **options)}, {MOST_INDEXED})"


class is_one_of(FunctionElement[bool]):
    """Whether the first argument is one of the texts in the second, a JSON list."""

    inherit_cache = True


@compiles(is_one_of)
def _in_json_each(element: Any, compiler: Any, **options: Any) -> str:
    text, texts = (compiler.process(each, **options) for each in element.clauses)
    return f"{text} IN (SELECT value FROM json_each({texts}))"


@compiles(is_one_of, "postgresql")
def _in_elements(element: Any, compiler: Any, **options: Any) -> str:
    text, texts = (compiler.process(each, **options) for each in element.clauses)
    return f"{text} IN (SELECT jsonb_array_elements_text(CAST({texts} AS jsonb)))"


class distinct_texts(FunctionElement[str]):
    """An aggregate: the different values of the argument, as the text of a JSON list."""

    inherit_cache = True
    type = String()


@compiles(distinct_texts)
def _group_array(element: Any, compiler: Any, **options: Any) -> str:
    return f"json_group_array(DISTINCT {compiler.process(element.clauses, **options)})"


@compiles(distinct_texts, "postgresql")
def _array_agg(element: Any, compiler: Any, **options: Any) -> str:
    argument = compiler.process(element.clauses, **options)
    return f"CAST(coalesce(json_agg(DISTINCT {argument}), '[]') AS text)"


def text_of_json(column: ColumnElement[Any]) -> ColumnElement[str]:
    """Return a JSON column as its text, which is parsed only where it is needed."""
    return cast(column, String)
