"""State and Org to somebody else's language."""
