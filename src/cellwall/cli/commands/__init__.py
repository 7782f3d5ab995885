"""One module per group of commands. Each has `register`, which adds its commands to the grammar."""
