"""Tests of sending messages, on real servers."""
