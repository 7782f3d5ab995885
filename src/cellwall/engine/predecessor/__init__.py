"""beta9's own networking, taken over with the containers on it."""
