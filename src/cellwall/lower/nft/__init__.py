"""nftables: `wall` lowers a wall to a ruleset, `elements` an endpoint to set elements (the hot path)."""
