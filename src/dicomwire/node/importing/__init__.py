"""Brings files of folders and ZIPs into an archive; see `work`."""
