"""Network namespaces of sandboxes: opened, entered, furnished, looked into."""
