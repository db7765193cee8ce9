"""Providers: pure translation, one wire format a file; ``app`` does all the I/O."""
