"""Leaves names that are not for programs out of `dir()`.

The reference of the documentation leaves out the same names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class PublicNames:
    """An object whose `dir()` lists no names that are private, or only for the library.

    Attributes
    ----------
    library_names : str
        The names without an underscore that only the library uses, with spaces between them.
    """

    __slots__ = ()

    library_names: ClassVar[str] = ""

    def __dir__(self) -> Iterable[str]:
        own = {"library_names", *self.library_names.split()}
        return [
            name
            for name in super().__dir__()
            if name not in own and (name[0] != "_" or name.startswith("__"))
        ]
