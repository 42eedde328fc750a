"""One association, whichever face drives it: its two ends, its life, its messages."""
