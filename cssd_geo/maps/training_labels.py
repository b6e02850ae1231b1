"""Which labels trained a map, as its tags tell: their files, and of files with several layers which one."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from cssd_geo.maps.layer import LABELS_TAG


def labels_tags(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return the tag with the label files of a model by what its provenance tells of them; none if it tells none.

    The tag has a word for each file: its fingerprint and, where a layer was chosen, `/` and the layer's name.
    """
    several = provenance.get("scenes")
    sources = several if isinstance(several, list) else [provenance]
    labels = [source.get("labels") for source in sources if isinstance(source, dict)]
    words = [_word(str(file.get("fingerprint")), file.get("layer")) for file in labels if isinstance(file, dict)]
    return {LABELS_TAG: " ".join(dict.fromkeys(words))} if words else {}


def have_trained(tags: Mapping[str, str], fingerprint: str, layer: str | None) -> bool:
    """Whether a map with these tags was trained on a label file, in this layer if both sides name one."""
    words = [word.partition("/") for word in tags.get(LABELS_TAG, "").split()]
    own = None if layer is None else _quoted(layer)
    return any(file == fingerprint and (own is None or not of or of == own) for file, _, of in words)


def _word(fingerprint: str, layer: Any) -> str:
    return f"{fingerprint}/{_quoted(layer)}" if isinstance(layer, str) else fingerprint


def _quoted(layer: str) -> str:
    return quote(layer, safe="")
