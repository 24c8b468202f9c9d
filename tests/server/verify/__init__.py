"""Tests of `verify`, on real servers."""
