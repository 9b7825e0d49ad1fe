"""Types of flags. A number has a range: Annotated[type, lowest, highest]."""

import os
from typing import Annotated, Literal

import torch

GPUS = range(torch.cuda.device_count())
Device = Literal[("cpu", *["cuda"] * bool(GPUS), *(f"cuda:{i}" for i in GPUS))]
# Processor cores of each of torchrun's processes. A decoder is busy for seconds with one video.
CORES = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
WORKERS = min(max(2, CORES), 6)  # a video that waits has up to 230 MB of pixels
Count = Annotated[int, 1, 10**6]
Limit = Annotated[int, 0, 10**9]  # 0 has a meaning of its own
Epochs = Annotated[int, 1, 10**4]
Rank = Annotated[int, 0, 10**4]
Threads = Annotated[int, 0, 1000]
Seed = Annotated[int, 0, 2**32 - 1]  # as numpy takes it
Share = Annotated[float, 0, 1]
Weight = Annotated[float, 0, 1e38]  # float32 holds at most 3.4e38
Positive = Annotated[float, 1e-12, 1e38]
Temperature = Annotated[float, 0, 100]
Seconds = Annotated[float, 0.01, 10**6]
