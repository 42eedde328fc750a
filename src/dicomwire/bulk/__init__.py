"""Sends many objects: on one association or several, with a ledger of stored objects."""
