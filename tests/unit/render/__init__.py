"""Tests of cyborg_infra.render."""
