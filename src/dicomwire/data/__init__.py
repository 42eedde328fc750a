"""Datasets as bytes: encoded, decoded, scanned, read from files and written to them."""
