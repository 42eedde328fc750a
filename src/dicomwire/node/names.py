"""Person names: their forms that are alike, and the words in them (PS3.5 6.2.1).

Which names match a key is not decided here.
"""

from __future__ import annotations

import re
import unicodedata

_NOT_DECOMPOSED = str.maketrans(
    dict(zip("øđðłħ\u0131", "oddlhi", strict=True)) | {"æ": "ae", "œ": "oe", "þ": "th"}
)
_BETWEEN_WORDS = re.compile(r"[\s^=,.;'\u2019-]+")


def plain_name(name: str) -> str:
    """Return the form in which names that differ only in case or in empty ends are the same.

    Empty components at the end of a group, empty groups at the end, and spaces around
    components do not count; letters with accents are what they are, composed or not.
    """
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    groups = [
        "^".join(part.strip() for part in group.split("^")).rstrip("^")
        for group in name.casefold().split("=")
    ]
    return "=".join(groups).rstrip("=")


def fold_name(name: str) -> str:
    """Return `plain_name` without accents: what an index keeps for its first selection."""
    return without_accents(plain_name(name))


def without_accents(plain: str) -> str:
    """Return a plain name, or a part of one, with base letters in place of accented ones.

    It goes character by character: where a plain name begins with a text, or contains it, the
    folded name does so with the folded text. Control characters are left out.
    """
    if not plain.isascii():
        plain = unicodedata.normalize("NFKD", plain)
        plain = "".join(each for each in plain if not unicodedata.combining(each)).casefold()
        plain = plain.translate(_NOT_DECOMPOSED)
    return plain if plain.isprintable() else "".join(filter(str.isprintable, plain))


def words_of(name: str) -> set[str]:
    """Return the words of a name in all its groups, folded; wildcards stay in them."""
    return set(_BETWEEN_WORDS.split(fold_name(name))) - {""}
