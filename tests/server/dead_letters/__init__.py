"""Tests of dead letters, on real servers."""
