"""The networks inside the package."""
