"""Tests of the monitor, on real servers."""
