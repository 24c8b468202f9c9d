"""Commands on a server that answers anything: `python -m tests.robustness`."""
