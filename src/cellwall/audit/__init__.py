"""What sandboxes tried: from what the kernel logs of a denied packet to an event that names container and tenant.

Pure: `packets` reads the packet, `holders` knows whose it was at that moment, `telling` makes an event of it,
`selection` picks, `shown` and `ocsf` spell it for people and for other programs, `learning` proposes a policy. Sockets
and files are adapters', the thread that joins them is the daemon's.
"""
