"""Tests of identities, without a server."""
