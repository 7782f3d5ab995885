"""Policies of tenants and endpoints: what comes into force, how it is kept, what it may take."""
