"""Clients of a running Callscope: sending audio to the gateway, receiving results from the sink."""
