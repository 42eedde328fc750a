"""Measurements of dicomwire beside its peers: `python -m benchmarks`, or `make bench`.

Here is what is compared and how it is timed; nothing here is imported by the library.
"""
