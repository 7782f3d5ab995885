"""HTTP over the daemon's socket.

Owns: the socket and who is at its other end, the bounds of a connection and of a body, each call of the table at its
path, and documents and problems as responses.

Refuses: what a call does to the node. That is `daemon.node`, and in whose turn is `daemon.turns`.
"""
