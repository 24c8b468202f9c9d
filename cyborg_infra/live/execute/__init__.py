"""Carries out a plan, one change after the other or side by side."""
