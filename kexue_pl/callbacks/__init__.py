"""Callbacks, one concept a file."""
