"""Values to terminal, JSON and Markdown."""
