"""Tests of what is read of other tools."""
