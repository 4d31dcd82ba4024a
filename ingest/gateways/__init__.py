"""The shells: each moves bytes between one kind of socket, its protocol and the intake."""
