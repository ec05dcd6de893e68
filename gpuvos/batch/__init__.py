"""Many videos: jobs, engines, and what became of each."""
