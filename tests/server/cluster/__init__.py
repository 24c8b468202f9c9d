"""Tests on clusters of real servers."""
