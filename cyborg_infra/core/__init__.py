"""Decisions, pure: Org to State, State against State to Plan."""
