"""The DICOM Upper Layer and DIMSE as plain functions of bytes: no sockets, threads or clocks."""
