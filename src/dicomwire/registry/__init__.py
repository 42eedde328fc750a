"""Which UIDs there are: SOP classes by service, transfer syntaxes, other well-known UIDs."""
