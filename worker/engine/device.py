"""Tells errors after which a device can compute nothing more from those of one computation."""

import torch

from worker.errors import DeviceError


def device_error(error: BaseException) -> DeviceError | None:
    """The error that ends the process if this one has poisoned the CUDA context, where every further call fails too.

    Memory that does not suffice poisons nothing.
    """
    if isinstance(error, DeviceError):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return None
    if isinstance(error, torch.AcceleratorError) or (isinstance(error, RuntimeError) and "CUDA error" in str(error)):
        first = str(error).strip().split("\n", maxsplit=1)[0]
        return DeviceError(f"The GPU can compute nothing more in this process, which must be started again: {first}")
    return None
