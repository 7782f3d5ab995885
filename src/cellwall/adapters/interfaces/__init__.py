"""The node's links: our bridge, its ports, the pairs."""
