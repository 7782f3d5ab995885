"""Other programs' firewalls on the same node."""
