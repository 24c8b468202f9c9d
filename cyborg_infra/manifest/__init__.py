"""Read manifests, messages and saved plans; check them; write manifests."""
