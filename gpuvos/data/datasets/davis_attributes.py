"""What makes a sequence of DAVIS difficult, as its authors say it in ``db_info.yml``."""

from __future__ import annotations

import warnings

from gpuvos.data.atomic import PathLike, as_path
from gpuvos.data.side_files import read_bytes
from gpuvos.errors import fail

_FILES = ("db_info.yml", "db_info.yaml", "data/db_info.yml", "data/db_info.yaml")

ATTRIBUTES = {
    "AC": "appearance change",
    "BC": "background clutter",
    "CS": "camera shake",
    "DB": "dynamic background",
    "DEF": "deformation",
    "EA": "edge ambiguity",
    "FM": "fast motion",
    "HO": "heterogeneous object",
    "IO": "interacting objects",
    "LR": "low resolution",
    "MB": "motion blur",
    "OCC": "occlusion",
    "OV": "out of view",
    "SC": "shape complexity",
    "SV": "scale variation",
}


def read_attributes(root: PathLike) -> dict[str, tuple[str, ...]]:
    """Attributes of the sequences of DAVIS, from ``ROOT/db_info.yml`` or ``ROOT/data/db_info.yaml``.

    The file has a list ``sequences`` with ``name`` and ``attributes`` each, the attributes as codes such as FM::

        sequences:
          - name: bear
            attributes: [DEF]

    Args:
        root: the folder of DAVIS.

    Returns:
        Codes (see ``ATTRIBUTES``) by sequence; empty where there is no such file, or, with a warning, no PyYAML.

    Raises:
        InputError: if the file is not as above; the message names it.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "db_info.yml").write_text("sequences: [{name: bear, attributes: [DEF]}]")
        >>> read_attributes(folder)
        {'bear': ('DEF',)}
    """
    folder = as_path("root", root)
    file = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    if file is None:
        return {}
    try:
        import yaml
    except ImportError:
        warnings.warn(f"'{file}' is not read: pip install 'gpuvos[evaluate]' brings PyYAML", stacklevel=2)
        return {}
    wanted = "a list 'sequences' with 'name' and 'attributes' each"
    try:
        content = yaml.safe_load(read_bytes("root", file, wanted))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise fail("root", f"'{file}' ({' '.join(str(error).split())})", wanted) from error
    sequences = content.get("sequences") if isinstance(content, dict) else None
    if not isinstance(sequences, list):
        raise fail("root", f"'{file}'", wanted)
    found: dict[str, tuple[str, ...]] = {}
    for entry in sequences:
        codes = entry.get("attributes") if isinstance(entry, dict) else None
        if not isinstance(codes, list) or not isinstance(entry.get("name"), str):
            raise fail("root", f"{entry!r} in '{file}'", wanted)
        found[entry["name"]] = tuple(str(code) for code in codes)
    return found
