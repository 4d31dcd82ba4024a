"""What every part of Callscope shares, and the command line that runs it."""
