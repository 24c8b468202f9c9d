"""A living organisation is changed at random while things break: `python -m tests.chaos`."""
