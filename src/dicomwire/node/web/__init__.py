"""HTTP: DICOMweb (PS3.18) and what else a node answers to HTTP requests."""
