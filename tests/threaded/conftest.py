"""The simulated world is a fixture of all tests here."""

from simulation import world

__all__ = ["world"]
