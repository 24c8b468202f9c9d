"""Tests of apply and what interrupts it, on real servers."""
