"""Gradients of a score with respect to the pixels, under three rules for what a nonlinearity passes back.

With x what entered a ReLU and R the signal that comes back to it: plain, R where x > 0, the gradient itself (Simonyan
et al. 2013); deconvnet, R where R > 0 (Zeiler and Fergus 2013, §2.1); guided, R where both hold (Springenberg et al.
2014). All else is back-propagation. Libraries replace `nn.ReLU` alone, so that a network of ReLU6, as
efficientnet_lite0, would silently have its plain gradient; here it is every activation.

N inputs, H W sides of an input.
"""

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lib.detectors.target import Target

Rule = Literal["plain", "guided", "deconvnet"]
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.Hardswish)


class _Ruled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, activation: nn.Module, rule: Rule) -> Tensor:
        ctx.save_for_backward(values)
        ctx.activation, ctx.rule = activation, rule
        activated: Tensor = activation(values)
        return activated

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None, None]:
        positive = signal.clamp(min=0)
        if ctx.rule == "deconvnet":
            return positive, None, None
        with torch.enable_grad():
            values = ctx.saved_tensors[0].detach().requires_grad_()
            return torch.autograd.grad(ctx.activation(values), values, positive)[0], None, None


class RuledActivation(nn.Module):
    """An activation that passes signals back by a rule. For others than ReLU, x > 0 stands for the slope at x."""

    def __init__(self, activation: nn.Module, rule: Rule) -> None:
        super().__init__()
        self.activation, self.rule = activation, rule

    def forward(self, values: Tensor) -> Tensor:
        """float of any shape -> of the same."""
        activated: Tensor = _Ruled.apply(values, self.activation, self.rule)  # type: ignore[no-untyped-call]
        return activated


def ruled(network: nn.Module, rule: Rule) -> nn.Module:
    """A copy whose activations follow a rule; the network itself for `plain`.

    Raises ValueError where it has no activation among its modules: the rule would change nothing.
    """
    if rule == "plain":
        return network
    changed = copy.deepcopy(network)
    parents = [(parent, name, child) for parent in changed.modules() for name, child in parent.named_children()]
    activations = [(parent, name, child) for parent, name, child in parents if isinstance(child, ACTIVATIONS)]
    if not activations:
        raise ValueError(f"{type(network).__name__} has no activation of {[kind.__name__ for kind in ACTIVATIONS]}")
    for parent, name, child in activations:
        child.inplace = False  # the rule reads what entered
        setattr(parent, name, RuledActivation(child, rule))
    return changed


def gradient(target: Target, network: nn.Module | None = None) -> Tensor:
    """float32 (N, 3, H, W): how the score of each input changes with its pixels.

    network : instead of the target's own, a copy with another rule or other weights
    """
    inputs = target.inputs.detach().clone().requires_grad_()
    with torch.enable_grad():
        score = target(network or target.network, inputs).sum()
        return torch.autograd.grad(score, inputs)[0]
