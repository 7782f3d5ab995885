"""What the node is like: its facts, settings and figures."""
