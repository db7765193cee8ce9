"""Text to unit vectors: the Protocol in ``base``, one driver a file."""
