"""swinlet: compact SwinIR students, trained by knowledge distillation from a large SwinIR teacher."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swinlet.models.select_model import define_Model
    from swinlet.models.select_network import define_G
    from swinlet.options import load_options
    from swinlet.upscale.upscaler import Upscaler, load

__version__ = "0.1.0"
__all__ = ["Upscaler", "define_G", "define_Model", "load", "load_options"]

# Imported on first use: `swinlet schema` and `swinlet --help` need no torch.
_WHERE = {
    "Upscaler": "swinlet.upscale.upscaler",
    "define_G": "swinlet.models.select_network",
    "define_Model": "swinlet.models.select_model",
    "load": "swinlet.upscale.upscaler",
    "load_options": "swinlet.options",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'swinlet' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
