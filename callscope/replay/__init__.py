"""Calls that were, through the stages once more: `callscope replay`; and whether the results are the same: `digest`."""
