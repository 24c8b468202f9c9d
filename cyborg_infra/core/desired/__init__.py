"""From the manifest to the desired state: names, settings, streams and consumers."""
