"""What a client may ask for: one class of calls for each kind of resource."""
