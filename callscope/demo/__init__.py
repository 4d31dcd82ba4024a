"""The demonstration: a call made with espeak-ng (tools/make_demo_call.py), and the load mode."""
