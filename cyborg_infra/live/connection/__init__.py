"""The connection to a server: which one, as whom, over what, and its errors."""
