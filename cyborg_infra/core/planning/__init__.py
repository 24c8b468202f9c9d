"""From the live and the desired state to a plan: what changes, in which order, at which cost."""
