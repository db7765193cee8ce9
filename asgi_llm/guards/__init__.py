"""Checks of what goes in and what comes out: the Protocol in ``base``, pure where possible."""
