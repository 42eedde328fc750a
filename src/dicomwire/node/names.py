"""Person names: forms for comparison, and the words in a name (PS3.5 6.2.1).

`patterns` decides which names match a key.
"""

from __future__ import annotations

import re
import unicodedata

_NOT_DECOMPOSED = str.maketrans(
    dict(zip("øđðłħ\u0131", "oddlhi", strict=True)) | {"æ": "ae", "œ": "oe", "þ": "th"}
)
"""Letters that Unicode does not decompose into a base letter and an accent."""
_BETWEEN_WORDS = re.compile(r"[\s^=,.;'\u2019-]+")


def plain_name(name: str) -> str:
    """Return a form that is equal for names that differ only in case, padding or empty ends.

    It lacks empty components at the end of a group, empty groups at the end, and spaces around
    components. It keeps accents; composed and decomposed letters become equal.
    """
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    groups = [
        "^".join(part.strip() for part in group.split("^")).rstrip("^")
        for group in name.casefold().split("=")
    ]
    return "=".join(groups).rstrip("=")


def fold_name(name: str) -> str:
    """Return `plain_name` without accents; the index keeps this form for prefilters."""
    return without_accents(plain_name(name))


def without_accents(plain: str) -> str:
    """Return a plain name, or a part of one, with base letters in place of accented ones.

    Each character is folded on its own, so that if a plain name begins with or contains a text,
    the folded name begins with or contains the folded text. Control characters are left out.
    """
    if not plain.isascii():
        plain = unicodedata.normalize("NFKD", plain)
        plain = "".join(each for each in plain if not unicodedata.combining(each)).casefold()
        plain = plain.translate(_NOT_DECOMPOSED)
    return plain if plain.isprintable() else "".join(filter(str.isprintable, plain))


def words_of(name: str) -> set[str]:
    """Return the folded words of all groups of a name, with their wildcards."""
    return set(_BETWEEN_WORDS.split(fold_name(name))) - {""}
