"""Tests of cyborg_infra.core.operate."""
