"""One association on either face: its two ends, its beginning and end, and its messages."""
