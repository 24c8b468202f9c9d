"""Tests of cyborg_infra.manifest."""
