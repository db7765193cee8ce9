"""What layers remember: Protocols in ``base.py`` and ``directory.py``, one driver per file."""
