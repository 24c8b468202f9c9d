"""Tests of cyborg_infra.monitor."""
