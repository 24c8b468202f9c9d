"""Tests of cyborg_infra.live.api."""
