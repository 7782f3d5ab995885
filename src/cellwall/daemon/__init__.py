"""`cellwall serve`: the one writer of a node, behind HTTP over a unix socket.

Owns: the order of calls (one writer, readers beside it), who may call what, the bounds of a call, and the life of the
process. Decides nothing about packets, and knows no settings but those of `api`.
"""
