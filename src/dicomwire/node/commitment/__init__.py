"""Storage commitment, in both directions (PS3.4 Annex J)."""
