"""Whose turn it is: one thread that writes, one that reads beside it.

Owns: a line for each caller, what is carried out together, and what is done while nobody waits.

Refuses: to know what a call is about.
"""
