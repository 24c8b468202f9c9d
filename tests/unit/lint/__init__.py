"""Tests of cyborg_infra.core.lint."""
