"""Tests of the project: contracts, documents, packaging."""
