"""Audio as it comes in, turned into 16 kHz frames: pure, and the same for any chunking of the bytes."""
