"""How much Penstock adds to a cold start."""
