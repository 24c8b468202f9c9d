"""Derive from an organisation who may publish and hear what."""
