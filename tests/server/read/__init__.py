"""Tests of what is read of an account, on real servers."""
