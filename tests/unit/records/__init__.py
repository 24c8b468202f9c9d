"""Tests of cyborg_infra.live.records."""
