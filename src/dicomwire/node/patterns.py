"""Matching with wildcards, and of person names (PS3.4 C.2.2.2.1 and C.2.2.2.4).

`names` splits and folds names.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from sqlalchemy import and_

from dicomwire.node.names import plain_name, without_accents, words_of
from dicomwire.node.prefilters import begins_with, contains, like
from dicomwire.node.values import ByText, Column, Condition

WILDCARDS = re.compile(r"[*?]")
_COMPONENTS = 5
_GROUPS = 3
_MOST_PREFILTERED = 10
"""The most words in a prefilter, which becomes slower with each; the rule checks all words."""
_MOST_WORDS = 100
"""The most words of a key: three groups of 64 characters have fewer (PS3.5 6.2)."""
_LONGEST_NAME = 256
"""The most characters of a name to split into words; a valid name has fewer (PS3.5 6.2)."""


def _compile(pattern: str) -> Callable[[str], object]:
    """Return a function that matches a whole text with a pattern of * and ?.

    Each piece between two asterisks becomes an atomic group: it is searched for once, after the
    previous piece. Without backtracking, the time does not explode for patterns of many asterisks.
    """
    if not WILDCARDS.search(pattern):
        return pattern.__eq__
    pieces = [re.escape(piece).replace(r"\?", ".") for piece in re.split(r"\*+", pattern)]
    first, *others = pieces
    if not others:
        return re.compile(first, re.DOTALL).fullmatch
    *middle, last = others
    inner = "".join(f"(?>.*?{piece})" for piece in middle)
    return re.compile(f"{first}{inner}.*{last}", re.DOTALL).fullmatch


class Wildcard(ByText):
    """Case-sensitive wild card matching (PS3.4 C.2.2.2.4)."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._matches = _compile(pattern)

    def accepts(self, text: str) -> bool:
        return bool(self._matches(text))

    def prefilter(self, column: Column) -> Condition | None:
        prefix = WILDCARDS.split(self.pattern, maxsplit=1)[0]
        if prefix:
            return and_(begins_with(column, prefix), like(column, self.pattern))
        return like(column, self.pattern)


def _longest_piece(pattern: str) -> str:
    """Return the longest piece of a pattern; the folded form of each matching name contains it."""
    pieces = (without_accents(piece.rstrip("^")) for piece in WILDCARDS.split(pattern))
    return max(pieces, key=len)


class _NameGroup:
    """A component group of a key, with or without wildcards; matches plain component groups.

    A component that is only an asterisk at the end also matches if it is missing: Doe^* matches
    Doe, too.
    """

    __slots__ = ("_matches", "is_needed", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern = re.sub(r"\*+", "*", pattern)
        self.is_needed = bool(pattern.strip("*^"))
        self._matches = [_compile(pattern)]
        for _ in range(_COMPONENTS):
            if pattern.endswith("^*"):
                pattern = pattern[:-2].rstrip("^")
                self._matches.append(_compile(pattern))

    def matches(self, group: str) -> bool:
        """Return whether a plain group matches."""
        return bool(group) and any(matches(group) for matches in self._matches)


class Name(ByText):
    """Matching of person names (PS3.4 C.2.2.2.1 and C.2.2.2.4, PS3.5 6.2.1).

    It ignores case, but not accents. A key of one component group may match any group of a name.
    In a key of several groups, each that is not empty has to match the same group of the name.
    """

    def __init__(self, key: str) -> None:
        self._groups = [_NameGroup(group) for group in plain_name(key).split("=")]

    def accepts(self, text: str) -> bool:
        groups = plain_name(text).split("=", _GROUPS)
        if len(self._groups) == 1:
            return any(map(self._groups[0].matches, groups))
        groups += [""] * (len(self._groups) - len(groups))
        pairs = zip(self._groups, groups, strict=False)
        return all(wanted.matches(group) for wanted, group in pairs if wanted.is_needed)

    def prefilter(self, column: Column) -> Condition | None:
        pieces = [_longest_piece(group.pattern) for group in self._groups]
        conditions = [contains(column, piece) for piece in pieces if piece]
        return and_(*conditions) if conditions else None


class FuzzyName(ByText):
    """Fuzzy semantic matching of person names, if it was negotiated (PS3.4 C.2.2.2.1.1).

    A name matches if it contains all words of the key, in any component and order. Case and
    accents are ignored. Words may have wildcards.

    Raises
    ------
    ValueError
        When the key has too many words.
    """

    def __init__(self, key: str) -> None:
        self._words = sorted(words_of(key))
        if len(self._words) > _MOST_WORDS:
            raise ValueError("too long")
        patterns = {word for word in self._words if WILDCARDS.search(word)}
        self._plain = {*self._words} - patterns
        self._matches = [_compile(pattern) for pattern in patterns]

    def accepts(self, text: str) -> bool:
        words = words_of(text[:_LONGEST_NAME])
        return self._plain <= words and all(any(map(each, words)) for each in self._matches)

    def prefilter(self, column: Column) -> Condition | None:
        pieces = map(_longest_piece, self._words[:_MOST_PREFILTERED])
        conditions = [contains(column, piece) for piece in pieces if piece]
        return and_(*conditions) if conditions else None
