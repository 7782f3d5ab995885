"""What calls do to a node's walls, for who asks: containers come and go, endpoints are told of, ports are published,
policies come into force, and what was tried is read.

What a caller may do is asked where it is done, on the thread that does it: the tenant of an endpoint cannot become
another one between the question and the deed. What belongs to somebody else is not there.

Refuses: how a call came and how it is answered, which is `daemon.http`, and in whose turn it is, which is
`daemon.turns`.
"""
