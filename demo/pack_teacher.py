"""Turn a run's weights into the demo's teacher: python demo/pack_teacher.py 4500_G.pth teacher_x4.safetensors"""

import json
import sys
from pathlib import Path

from safetensors.torch import save_file

from swinlet.models.architecture import read_architecture
from swinlet.models.select_network import define_G
from swinlet.weights import read_weights

source, target = map(Path, sys.argv[1:])
weights = read_weights(source, "source")
config = read_architecture(weights, str(source))
network = define_G({"net_type": "swinir", **config})
network.load_state_dict(weights)
save_file(network.state_dict(), target, metadata={"net_type": "swinir", "config": json.dumps(config)})
