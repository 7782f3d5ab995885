"""Settings + facts + what is exposed → the wall. Pure: the same inputs give the same wall, always.

One module per concern: `pins` (frames), `guard` (the node), `forward` (B9-FORWARD), `translate` (NAT), `resolvers`,
and `usage` (which forms of exposure exist at all: rules for what nobody uses do not exist). `assemble` puts them
together; `wall` is the vocabulary.
"""
