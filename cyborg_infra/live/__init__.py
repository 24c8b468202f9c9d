"""The only door to a server, the only asynchronous room."""
