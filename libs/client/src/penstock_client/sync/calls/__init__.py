# Made by libs/client/make_sync.py of penstock_client/calls/__init__.py: change that one.
"""What a client may ask for: one class of calls for each kind of resource."""
