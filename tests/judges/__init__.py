"""What other projects' programs say of what this one writes: `make judges`, not `make test`."""
