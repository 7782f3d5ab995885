"""Descriptors that outlive the daemon, in the service manager's store (systemd, `FileDescriptorStoreMax=`).

Owns: which sockets are left there, under which names, and what the next daemon does with them.
"""
