"""Forwarding: threads send objects to the destinations that `routing` has chosen for them."""
