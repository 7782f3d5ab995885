"""cellwall: the network layer of Linux hosts that run untrusted containers."""

__version__ = "0.1.0"
