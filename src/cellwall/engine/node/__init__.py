"""What stands on the node before any endpoint does: rules, settings, its place among other programs."""
