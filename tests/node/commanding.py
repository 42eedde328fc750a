"""A command of `dicomwire node` in a process of its own, which ends with 0 if the command does."""

from __future__ import annotations

from dicomwire.apps.node import main as node


def main(*arguments: str) -> None:
    assert node([*arguments]) == 0
