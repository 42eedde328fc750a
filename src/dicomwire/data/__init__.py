"""Encoded datasets: encoding, decoding and scanning them, reading and writing their files."""
