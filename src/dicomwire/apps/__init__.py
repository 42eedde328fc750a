"""The applications: a module for each command, and the modules that several of them share.

They use only the public API, as any program can.
"""
