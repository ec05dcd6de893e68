"""Optical flow of clips."""
