"""What the kernel tells of changes."""
