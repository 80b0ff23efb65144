"""Making a scaling known to transformers, and putting it into models."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kexue_pl.attention.function import Call, ScaledAttention
from kexue_pl.attention.positions.base import Positions
from kexue_pl.attention.scaling import Scaling

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_REGISTERED: dict[str, ScaledAttention] = {}
_NUMBER = itertools.count()


def register(name: str, scaling: Scaling, positions: Positions | None = None) -> ScaledAttention:
    """Register a scaling as ``attn_implementation=name`` for any model that uses the interface.

    Both the attention function and its mask builder are registered: without the second transformers
    builds no mask at all for an unknown name and padding leaks without a word.

    Args:
        name: what to pass as ``attn_implementation``; an earlier registration is replaced.
        scaling: the rule of the logits, e.g. :class:`EntropyInvariant`.
        positions: positions to apply inside the function, for models whose own are absent (BERT
            with zeroed position embeddings); None for models that bring theirs (Llama, ModernBERT,
            T5).

    Returns:
        The function, with its count of ``calls`` and list of ``observers``.

    >>> from kexue_pl.attention import EntropyInvariant
    >>> register("entropy_invariant", EntropyInvariant()).name
    'entropy_invariant'
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    function = ScaledAttention(name, scaling, positions)
    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, sdpa_mask)
    _REGISTERED[name] = function
    return function


def registered(name: str) -> ScaledAttention:
    """The function registered under ``name``.

    Raises:
        KeyError: if there is none.
    """
    if name not in _REGISTERED:
        raise KeyError(
            f"attn_implementation={name!r} was not registered by kexue_pl.attention.register; "
            f"registered here: {', '.join(sorted(_REGISTERED)) or 'none'}"
        )
    return _REGISTERED[name]


def apply_attention(
    config: PreTrainedConfig, scaling: Scaling, positions: Positions | None = None
) -> str:
    """Register a scaling under a name of its own and make a configuration ask for it.

    Args:
        config: configuration of a model still to be built.
        scaling: the rule of the logits.
        positions: as in :func:`register`.

    Returns:
        The name, also good as ``attn_implementation``. After building call :func:`attach`.
    """
    name = f"kexue_{type(scaling).__name__.lower()}_{next(_NUMBER)}"
    register(name, scaling, positions)
    config._attn_implementation = name
    return name


def install(
    model: nn.Module, scaling: Scaling, positions: Positions | None = None
) -> ScaledAttention:
    """Put a scaling into a model that is already built: register, switch, attach, guard.

    Args:
        model: a transformers model, or a module that holds one.
        scaling: the rule of the logits; an earlier one is replaced.
        positions: as in :func:`register`.

    Returns:
        The registered function.

    Raises:
        TypeError: if there is no transformers model inside.
        RuntimeError: from the first batch, if the model never calls the function.
    """
    body = pretrained_body(model)
    for module in body.modules():
        module._modules.pop("attention_scaling", None)
    body.set_attn_implementation(apply_attention(copy.deepcopy(body.config), scaling, positions))
    return attach(body)


def attach(model: nn.Module) -> ScaledAttention:
    """Finish a model built with a registered name: own values in every layer, and the guard.

    Learned and calibrated scalings get one copy a layer with one value a head, named
    ``attention_scaling`` in the layer, so the optimizer and the checkpoint hold them; layers are
    found by one forward pass over five tokens. Whatever the scaling, a model whose first batch does
    not reach the function is refused.

    Raises:
        TypeError: if there is no transformers model inside.
        KeyError: if its ``attn_implementation`` was not registered here.
    """
    body = pretrained_body(model)
    function = registered(body.config._attn_implementation)
    if function.scaling.per_layer:
        for layer, heads in attention_layers(body, function):
            own = copy.deepcopy(function.scaling)
            own.bind(heads)
            layer.attention_scaling = own.to(next(layer.parameters()).device)
    # The inner body, since heads are also called apart from the whole.
    guard(body.base_model, function)
    return function


def guard(model: PreTrainedModel, function: ScaledAttention) -> None:
    """Refuse the first batch of a model that does not call ``function`` in it.

    transformers accepts any registered name, also for models with an attention of their own
    (RoFormer), where the scaling would be ignored and the mask misread.
    """
    before = function.calls

    def check(module: nn.Module, inputs: Any, output: Any) -> None:
        replaced = getattr(module.config, "_attn_implementation", None) != function.name
        if not (replaced or torch.compiler.is_compiling()) and function.calls == before:
            raise RuntimeError(
                f"{type(module).__name__} never called the attention function {function.name!r}: "
                "it has an attention of its own, so the scaling would be ignored and padding may "
                "leak; use a model that dispatches to AttentionInterface "
                "(RoFormer weights: kexue_pl.attention.roformer_to_bert)"
            )
        handle.remove()

    handle = model.register_forward_hook(check)


def pretrained_body(model: nn.Module) -> PreTrainedModel:
    """The outermost transformers model in ``model`` (itself, as a rule).

    Raises:
        TypeError: if there is none.
    """
    from transformers import PreTrainedModel

    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            return module
    raise TypeError(f"{type(model).__name__} holds no transformers model to put a scaling into")


@contextmanager
def observing(function: ScaledAttention, observer: Any) -> Iterator[None]:
    """Let ``observer`` see every call of ``function`` inside the block."""
    function.observers.append(observer)
    try:
        yield
    finally:
        function.observers.remove(observer)


def attention_layers(
    model: PreTrainedModel, function: ScaledAttention
) -> list[tuple[nn.Module, int]]:
    """Layers of a model that call ``function``, in order of their first call, with their heads."""
    found: dict[nn.Module, int] = {}

    def note(call: Call) -> None:
        found.setdefault(call.module, call.query.shape[1])

    training = model.training
    with observing(function, note), torch.no_grad():
        model.eval()(**_dummy_inputs(model))
        model.train(training)
    if not found:
        guard_message = (
            f"{type(model).__name__} never called the attention function {function.name!r}"
        )
        raise RuntimeError(guard_message + "; it does not dispatch to AttentionInterface")
    return list(found.items())


def _dummy_inputs(model: PreTrainedModel) -> dict[str, Tensor]:
    device = next(model.parameters()).device
    ids = torch.arange(5, device=device)[None] % int(model.config.get_text_config().vocab_size)
    inputs = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    return inputs
