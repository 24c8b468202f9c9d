"""Tests of connections, on real servers."""
