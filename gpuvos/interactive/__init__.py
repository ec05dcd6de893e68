"""What a person does with a result: explain it, relabel it, tell its objects apart, prompt with it."""
