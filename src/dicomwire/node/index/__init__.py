"""The index of a node: the database of all stored objects."""
