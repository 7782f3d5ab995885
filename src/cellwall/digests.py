"""BLAKE2s without hashlib: that loads every algorithm there is, which costs a CNI call 1 ms."""

try:
    from _blake2 import blake2s
except ImportError:  # an interpreter built with OpenSSL's digests alone
    from hashlib import blake2s

__all__ = ["blake2s"]
