"""Tests of cyborg_infra.model."""
