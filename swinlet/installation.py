"""What is installed here, for ``swinlet info``."""

import torch

import swinlet
from swinlet import kernels
from swinlet.utils.device import has_bf16_instructions


def describe() -> dict[str, str]:
    """Versions, the path of blocks and convolutions on the CPU with its reason, and devices.

    Raises:
        OptionError: SWINLET_KERNELS or SWINLET_KERNELS_LEVEL ask for what is not there.
    """
    status = kernels.status()
    path = f"native ({status.level})" if status.path == "native" else "torch"
    gpus = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return {
        "swinlet": swinlet.__version__,
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
        "kernels": f"{path}: {status.reason}",
        "bf16 on the CPU": "yes" if has_bf16_instructions() else "no instructions for it, very slow",
        "GPU": ", ".join(gpus) or ("mps" if torch.backends.mps.is_available() else "none"),
    }
