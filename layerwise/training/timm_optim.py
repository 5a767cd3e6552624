"""The optimizers of timm, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from layerwise.core.errors import LayerwiseError, suggest


def timm_optimizer(
    name: str,
    parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """Builds an optimizer of timm, with timm's defaults for all other options.

    Args:
        name: timm's name of the optimizer, such as lamb.
        parameters: the trained parameters, or groups of them. As in `optim.sgd`, the weight decay applies to every
            parameter whose group does not override it.
        momentum: momentum of optimizers that have one (those with betas keep timm's values).
        weight_decay: weight decay, which the optimizer adds to the gradient or applies to the weights.

    Raises:
        LayerwiseError: see `check_timm_optimizer`; or the optimizer refuses a value.
    """
    check_timm_optimizer(name)
    factory = _factory()
    values: dict[str, Any] = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
    if big_vision := factory.get_optimizer_info(name).opt_class is factory.AdafactorBigVision:
        values["momentum_dtype"] = torch.float32  # loading a checkpoint would turn its bfloat16 into this
    try:
        optimizer: torch.optim.Optimizer = factory.create_optimizer_v2(list(parameters), name, **values)
    except ValueError as error:  # such as Nesterov's method without momentum
        raise LayerwiseError(f"optimizer.name={name}: {str(error).rstrip('.')}.") from error
    if big_vision:  # a checkpoint can hold no torch.dtype
        optimizer.register_state_dict_post_hook(_drop_dtype)
        optimizer.register_load_state_dict_pre_hook(_add_dtype)
    return optimizer


def check_timm_optimizer(name: str) -> None:
    """Checks that timm has the optimizer and the training loop can use it.

    Raises:
        LayerwiseError: timm has no such optimizer, or it cannot be used.
    """
    if name not in _factory().list_optimizers() and not name.startswith("lookahead_"):
        raise LayerwiseError(f"optimizer.name={name}: unknown.{suggest(name.lower(), usable_timm_optimizers())}")
    if (reason := _reason(name)) is not None:
        raise LayerwiseError(f"optimizer.name={name}: cannot be used: {reason}. Choose another.")


def usable_timm_optimizers() -> list[str]:
    """Returns the names of all optimizers that `timm_optimizer` can build."""
    return [name for name in _factory().list_optimizers() if _reason(name) is None]


def _reason(name: str) -> str | None:
    """Returns why the training loop cannot use an optimizer of timm, or None."""
    if name.startswith("lookahead_"):
        return "Lookahead hides the momentum of what it wraps, so that nothing can restart it"
    info = _factory().get_optimizer_info(name)
    if info.second_order:
        return "it needs second-order gradients, which the training loop does not compute"
    if isinstance(info.opt_class, str):  # timm names a class of another package
        return f"it needs the package {info.opt_class.split('.')[0]}, which layerwise does not support"
    if info.opt_class.__name__ == "Kron":  # opt_einsum would only reduce its memory
        return "its memory grows with the fourth power of the width, and its random state cannot be restored"
    return None


def _factory() -> Any:
    import timm.optim  # slow to import

    return timm.optim


def _drop_dtype(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    for group in state["param_groups"]:
        del group["momentum_dtype"]


def _add_dtype(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    return state | {"param_groups": [group | {"momentum_dtype": torch.float32} for group in state["param_groups"]]}
