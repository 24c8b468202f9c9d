"""Warnings about a manifest that is valid."""
