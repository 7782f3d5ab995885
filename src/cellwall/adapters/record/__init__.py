"""What outlives a process: journal and policies in SQLite, and whose turn it is to write them."""
