"""Forwarding: rules decide where an object goes, and threads send it there."""
