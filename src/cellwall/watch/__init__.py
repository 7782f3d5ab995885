"""Watch: what others take away from the wall, or change of it, is put back without anyone acting.

`pace` decides when to look, without a clock of its own; `loop` listens, looks and says what it did; `closing` closes
what is open, beside it. They are for whoever lives long: `cellwall watch`, and the daemon. What is looked at, and
repaired, is `api.Wall`'s.
"""
