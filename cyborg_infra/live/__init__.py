"""Everything that talks to a server; the only asynchronous package."""
