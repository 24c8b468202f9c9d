"""Replaces a consumer: the new one goes on where the old one stood."""
