"""A page on this machine: a video goes in, masks come out, and a click mends them. ``gpuvos app`` opens it."""
