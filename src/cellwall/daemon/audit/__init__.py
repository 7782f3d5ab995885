"""What sandboxes tried, from the kernel's log to a record.

Owns: the thread that listens, what it keeps from one look to the next, and what is done with a loss.

Refuses: to wait for who writes. What an event is and how it is told is `cellwall.audit`'s, and pure.
"""
