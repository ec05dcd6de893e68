"""Datasets in their own layouts."""
