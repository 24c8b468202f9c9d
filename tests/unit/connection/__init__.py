"""Tests of cyborg_infra.live.connection."""
