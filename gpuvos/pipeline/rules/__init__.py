"""The rules by which seeds become foreground and background: everything that differs between them."""

from gpuvos.pipeline.rules.base import Reason, Rule, StreamWindow
from gpuvos.pipeline.rules.paper import PaperRule
from gpuvos.pipeline.rules.robust import RobustRule

RULES: dict[str, Rule] = {"paper": PaperRule(), "robust": RobustRule()}
"""The rules by the names that ``Config.rule`` takes."""

__all__ = ["RULES", "PaperRule", "Reason", "RobustRule", "Rule", "StreamWindow"]
