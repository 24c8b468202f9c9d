"""Tests of the replacement and renaming of streams, on real servers."""
