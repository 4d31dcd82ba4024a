"""`callscope bench`: how many legs this machine carries, and at what latency and cost."""
