"""The other side of each protocol: what a telephony platform sends to the gateway, from any recording."""
