"""Tests on real servers, newest and oldest."""
