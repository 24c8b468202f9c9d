"""Text to Org: the only room that reads a manifest."""
