"""Tests of exports against real servers."""
