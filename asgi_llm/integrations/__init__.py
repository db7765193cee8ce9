"""How the package fits into the hosts that people already have."""
