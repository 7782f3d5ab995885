"""What goes over the daemon's socket: documents and errors as JSON has them, and where each call lives. Pure."""
