"""The known UIDs: SOP classes by service, transfer syntaxes, other well-known UIDs."""
