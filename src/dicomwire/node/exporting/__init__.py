"""Copies objects out of an archive, into folders and ZIPs with a DICOMDIR (PS3.10, PS3.12)."""
