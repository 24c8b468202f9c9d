"""Readings of a server beyond the snapshot: for a status, and for what a plan would cost."""
