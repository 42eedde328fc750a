"""Warns where the real pynetdicom is installed beside this one."""

from __future__ import annotations

import os
import sys
import warnings
from importlib.machinery import PathFinder

_TEXT = """\
dicomwire provides pynetdicom here, but the real one is installed too, in {folder}, and not used. \
Uninstall one of them: "pip uninstall pynetdicom" keeps dicomwire, "pip uninstall \
dicomwire-pynetdicom" the real one. Installing dropin/requirement of dicomwire's repository keeps \
packages that depend on pynetdicom from installing it again."""


def warn_of_another() -> None:
    """Warn if another package of this name can be found; imports happen once, and so does this."""
    here = os.path.dirname(os.path.dirname(__file__))
    others = [folder for folder in sys.path if os.path.abspath(folder) != os.path.abspath(here)]
    another = PathFinder.find_spec("pynetdicom", others)
    if another is not None and another.origin is not None:
        text = _TEXT.format(folder=os.path.dirname(another.origin))
        warnings.warn(text, stacklevel=3)
