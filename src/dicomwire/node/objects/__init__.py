"""The objects of a node: the spool, where they arrive, and the store, where they stay."""
