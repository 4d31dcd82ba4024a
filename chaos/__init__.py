"""Faults on purpose: what is found must be what is found without them. `make chaos`; docs/chaos.md."""
