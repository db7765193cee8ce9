"""Where a request may go, in which order, and what to do when it fails there. No I/O."""
