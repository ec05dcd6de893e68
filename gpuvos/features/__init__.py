"""What feeds the method: embedding, objectness and optical flow of a clip."""
