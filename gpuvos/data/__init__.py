"""Videos, images, masks, datasets and rendered clips."""
