"""Connection tracking: flows that end before their time, and the times of those that closed."""
