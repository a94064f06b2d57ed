"""The router beside other reverse proxies."""
