"""PyTorch computes with one thread here, as export does: for networks this small, sharing costs more."""

import torch

torch.set_num_threads(1)
