"""The layers, one file each. None imports another."""
