"""Benchmarks: ratios against peers and against no firewall, each measured in one interleaved run.

A figure of another day or another machine is never compared with: every table has its own base. Everything runs in
throw-away labs; nothing reaches the machine's own network.
"""
