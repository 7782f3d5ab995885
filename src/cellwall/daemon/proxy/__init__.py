"""A published port whose server listens in the other address family only.

Owns: which ports are served so (`proxies`), the process that carries their bytes (`program`, `relay`), whom it admits
(`clients`, `arrivals`), and what of it a tenant may have (`connections`, `shares`).

Refuses: a turn of the daemon's loop to any tenant's traffic.
"""
