"""Replaces or renames a stream: its messages and its consumers' positions move along."""
