"""DICOMweb as a client (PS3.18)."""
