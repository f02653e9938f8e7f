"""The weights that a training moves: whether they can be trained, and in which precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from nbkit.models.checks import check_finite
from nbkit.models.policy import Policy
from nbkit.train.trainers import strip


class MasterWeights:
    """Trainable weights of half precision, held in float32 for the time of a training.

    A step of DPO is smaller than the distance between two neighbours in bfloat16, so that most
    weights would stay where they are. In float32 the steps add up; `put_back` rounds their sum.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.dtypes = {
            parameter: parameter.dtype
            for parameter in model.parameters()
            if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16)
        }
        for parameter in self.dtypes:
            parameter.data = parameter.data.float()

    @contextlib.contextmanager
    def rounded(self) -> Iterator[None]:
        """Inside the block the weights are as `put_back` would leave them."""
        masters = {parameter: parameter.data for parameter in self.dtypes}
        try:
            self._round()
            yield
        finally:
            for parameter, master in masters.items():
                parameter.data = master

    def put_back(self) -> None:
        for parameter in self.dtypes:
            parameter.grad = None
        self._round()

    def _round(self) -> None:
        for parameter, dtype in self.dtypes.items():
            parameter.data = parameter.data.to(dtype)


@contextlib.contextmanager
def in_training(model: torch.nn.Module) -> Iterator[MasterWeights]:
    """Inside the block the model's weights are masters; after it, it is a plain model again, in
    its own precision, for use."""
    weights = MasterWeights(model)
    try:
        yield weights
    finally:
        strip(model)
        model.eval()
        weights.put_back()


def check_trainable(policy: Policy, lora: int | None) -> None:
    """Refuse, before the work, a policy that cannot be trained.

    Raises:
        ValueError: float16; its adapter switched off; no weight that may change; a weight that is
            no finite number.
    """
    name = policy.name
    if policy.dtype == torch.float16:
        raise ValueError(
            f"Policy {name!r} is in float16, whose range is too small for the gradients of a "
            "training. Load it with dtype='bfloat16', or with 'float32' where the GPU has no "
            "bfloat16."
        )
    if not policy.adapter_enabled:
        raise ValueError(
            f"Policy {name!r} has its adapter switched off, which is for a reference. Train "
            "the policy with its adapter on, or the base model without one."
        )
    if not lora and not any(parameter.requires_grad for parameter in policy.model.parameters()):
        raise ValueError(
            f"All weights of policy {name!r} are frozen. Set `requires_grad` of those to train; an "
            "adapter is loaded to be trained with is_trainable=True in peft."
        )
    check_finite(name, policy.model)


def check_ran(learner: Policy, learning_rate: float) -> None:
    """Raise FloatingPointError if a training has left a weight that is no finite number."""
    try:
        check_finite(learner.name, learner.model)
    except ValueError as error:
        raise FloatingPointError(
            f"The training has run away. {error} Lower the learning rate ({learning_rate:g}), or "
            "warm it up (warmup_steps)."
        ) from error
