"""Netlink by hand: sockets, attributes, and the words of rtnetlink and nfnetlink."""
