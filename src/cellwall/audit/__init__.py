"""What sandboxes tried: from what the kernel logs of a denied packet to an event that names container and tenant.

Pure: `packets` reads the packet, `holders` knows whose it was at that moment, `events` says it, `selection` picks,
`shown` and `ocsf` spell it for people and for other programs, `learning` proposes a policy from it. Sockets and files
are adapters', the thread that joins them is the daemon's.
"""
