"""Upstream bytes: a small Protocol in ``base``, one driver a file."""
