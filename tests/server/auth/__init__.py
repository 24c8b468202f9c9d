"""Tests of identities, on real servers."""
