"""Pictures of what the method does: maps of one quantity, the contact sheet of every step, and charts."""

from gpuvos.viz.charts import Series, bar_chart, line_chart
from gpuvos.viz.contact_sheet import contact_sheet
from gpuvos.viz.maps import (
    Color,
    draw_points,
    embedding_colors,
    flow_colors,
    flow_scale,
    heatmap,
    mask_contour,
    overlay,
    region_colors,
    saliency_map,
    save_png,
    to_frames,
)

__all__ = [
    "Color",
    "Series",
    "bar_chart",
    "contact_sheet",
    "draw_points",
    "embedding_colors",
    "flow_colors",
    "flow_scale",
    "heatmap",
    "line_chart",
    "mask_contour",
    "overlay",
    "region_colors",
    "saliency_map",
    "save_png",
    "to_frames",
]
