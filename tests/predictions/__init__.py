"""What the tool says that servers take, held to servers: `python -m tests.predictions`."""
