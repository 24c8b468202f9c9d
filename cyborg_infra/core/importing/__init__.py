"""From a live account to the manifest that describes it."""
