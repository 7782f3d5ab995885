"""iptables, ip6tables, ebtables by their own programs, ipset over netlink."""
