"""What the monitor serves over HTTP: metrics, health, and the page; the one place that knows a web framework."""
