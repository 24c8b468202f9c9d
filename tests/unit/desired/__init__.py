"""Tests of cyborg_infra.core.desired."""
