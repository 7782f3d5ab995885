"""Published and reserved ports of the node."""
