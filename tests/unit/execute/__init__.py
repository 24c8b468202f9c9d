"""Tests of cyborg_infra.live.execute."""
