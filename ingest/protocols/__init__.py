"""The protocols that audio comes in by, each a pure state machine: messages in, events and messages out."""
