"""Whole commands beside what is physically possible and beside other tools, in one run on one machine."""
