"""The wall in iptables and ipset: constant chains that are replaced a table at a time, endpoints as set entries."""
