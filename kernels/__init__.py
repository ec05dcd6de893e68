"""The hot steps as ops: a folder an op, ``reference.py`` in plain torch, ``op.py`` its registration."""
