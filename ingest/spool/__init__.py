"""What the gateway keeps on disk while Kafka is away: `lane.py` and `framing.py` are pure, the others are the shell."""
