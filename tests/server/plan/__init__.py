"""Tests of plans and what they foretell, on real servers."""
