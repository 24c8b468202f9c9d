"""Tests of cyborg_infra.core.planning."""
