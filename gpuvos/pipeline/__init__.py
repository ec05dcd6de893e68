"""The method, written once: steps, rules, and what runs them over clips and streams."""
