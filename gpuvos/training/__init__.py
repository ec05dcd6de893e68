"""Training of the learned front end: losses, photographs, augmentation, loop."""
