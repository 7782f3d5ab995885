"""A published port whose server listens in the other address family only.

Owns: which ports are served so, the process that carries their bytes, and whom it admits.

Refuses: a turn of the daemon's loop to any tenant's traffic.
"""
