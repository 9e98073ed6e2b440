"""The operators that a captured network may hold, by what quantization means for them."""

import operator
from typing import Any

import torch

aten = torch.ops.aten

LAYERS = frozenset({aten.conv2d.default, aten.conv2d.padding, aten.linear.default})
"""Quantizable layers: integer weights, and an input quantized at the layer's own ``activation_bits``."""

BATCH_NORM = aten._native_batch_norm_legit_no_training.default

VIEWS = frozenset({aten.view.default, aten._unsafe_view.default})
COPIES = frozenset({aten.alias.default, aten.clone.default, aten.contiguous.default})
"""Operators about memory, which a captured graph says nothing about."""

ASSERTIONS = frozenset({aten._assert_tensor_metadata.default})
"""Checks that export adds to casts; they return nothing."""

PASSING = frozenset(
    {
        aten.adaptive_max_pool2d.default,
        aten.amax.default,
        aten.cat.default,
        aten.channel_shuffle.default,
        aten.clamp.default,
        aten.clamp_max.default,
        aten.clamp_min.default,
        aten.constant_pad_nd.default,
        aten.expand.default,
        aten.flatten.using_ints,
        aten.flip.default,
        aten.hardtanh.default,
        aten.hstack.default,
        aten.index.Tensor,
        aten.index_select.default,
        aten.max_pool2d.default,
        aten.max_pool2d_with_indices.default,
        aten.maximum.default,
        aten.minimum.default,
        aten.narrow.default,
        aten.pad.default,
        aten.permute.default,
        aten.pixel_shuffle.default,
        aten.pixel_unshuffle.default,
        aten.relu.default,
        aten.relu6.default,
        aten.repeat.default,
        aten.reshape.default,
        aten.roll.default,
        aten.select.int,
        aten.slice.Tensor,
        aten.split.Tensor,
        aten.split_with_sizes.default,
        aten.squeeze.dim,
        aten.squeeze.dims,
        aten.stack.default,
        aten.t.default,
        aten.transpose.int,
        aten.unbind.int,
        aten.unsqueeze.default,
        operator.getitem,
    }
)
"""Order-preserving, moving or selecting operators: they commute with quantization, so the tensor is quantized where it
is next read. Concatenation is one: each producer writes its part in the reader's format."""

MOVING = PASSING - {
    aten.clamp.default,
    aten.clamp_max.default,
    aten.clamp_min.default,
    aten.hardtanh.default,
    aten.maximum.default,
    aten.minimum.default,
    aten.relu.default,
    aten.relu6.default,
}
"""Those whose results are values that were there before: the others change some, so they make another tensor."""

ARITHMETIC = frozenset(
    {
        BATCH_NORM,
        aten._adaptive_avg_pool2d.default,
        aten._log_softmax.default,
        aten._softmax.default,
        aten.abs.default,
        aten.exp.default,
        aten.adaptive_avg_pool2d.default,
        aten.add.Scalar,
        aten.add.Tensor,
        aten.avg_pool2d.default,
        aten.bmm.default,
        aten.div.Scalar,
        aten.div.Tensor,
        aten.celu.default,
        aten.elu.default,
        aten.gelu.default,
        aten.group_norm.default,
        aten.hardsigmoid.default,
        aten.hardswish.default,
        aten.layer_norm.default,
        aten.instance_norm.default,
        aten.leaky_relu.default,
        aten.log_softmax.int,
        aten.matmul.default,
        aten.mean.default,
        aten.mean.dim,
        aten.mish.default,
        aten.mul.Scalar,
        aten.mul.Tensor,
        aten.native_group_norm.default,
        aten.native_layer_norm.default,
        aten.neg.default,
        aten.pow.Tensor_Scalar,
        aten.prelu.default,
        aten.rsqrt.default,
        aten.rsub.Scalar,
        aten.scaled_dot_product_attention.default,
        aten.selu.default,
        aten.sigmoid.default,
        aten.silu.default,
        aten.softmax.int,
        aten.softplus.default,
        aten.sqrt.default,
        aten.sub.Scalar,
        aten.sub.Tensor,
        aten.sum.dim_IntList,
        aten.tanh.default,
        aten.upsample_bilinear2d.vec,
        aten.upsample_nearest2d.vec,
    }
)
"""Operators that compute on stored tensors: residual sums, pooling, normalization, attention, non-linearities."""

SHAPES = frozenset(
    {aten.sym_size.int, operator.add, operator.floordiv, operator.mul, operator.neg, operator.sub, operator.truediv}
)
"""Integers about shapes, not tensors."""


def is_understood(target: Any) -> bool:
    """Whether quantization of this operator is defined."""
    return target in LAYERS or target in PASSING or target in ARITHMETIC or target in SHAPES
