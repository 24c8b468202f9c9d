"""Tests of the replacement of consumers, on real servers."""
