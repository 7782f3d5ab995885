"""The wall in nftables: constant rules that are refreshed or replaced as text, endpoints as set elements."""
