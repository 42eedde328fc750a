"""The applications: a module for each command, and what they share.

They use what any program could use: the public API, and nothing under it.
"""
