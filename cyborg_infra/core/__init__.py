"""Pure decisions: expand a manifest into desired resources, compare them with the live ones, plan, lint."""
