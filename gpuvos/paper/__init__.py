"""The paper's experiments on any front end: features cached, results resumable, sequences shared among processes.

``gpuvos evaluate --experiment NAME`` runs them. Data flows one way: ``datasets`` -> ``cache`` -> ``variants`` (what
is measured of a sequence) -> ``runner`` -> ``tables`` (beside the paper's numbers of ``reported``) -> ``report``.
"""
