"""A transformer from capture to candidates: layers are its linear ones, attention is operators on quantized tensors."""

from pathlib import Path

import pytest
import torch

import hwsearch
from hwsearch.lowering import lower
from hwsearch.networks import VisionTransformer
from hwsearch.search import build_space

CONF = Path(__file__).parents[3] / "conf"


@pytest.fixture(scope="module")
def images():
    return torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network(images):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = VisionTransformer(width=24, heads=3, depth=2, patch=4, size=16, classes=5).eval()
    return hwsearch.capture(module, images)


@pytest.fixture(scope="module")
def judge(network, images):
    database = hwsearch.build_database(network, hwsearch.requant, [4, 8])
    return hwsearch.FakeQuantNetwork(network, database, hwsearch.calibrate(network, [images], hwsearch.mse, [4, 8]))


def uniform(network, weight_bits, activation_bits):
    return {layer.name: hwsearch.Precision(weight_bits, activation_bits) for layer in network.layers}


def test_attention_equals_torchs():
    attention = VisionTransformer(24, 3, 1).blocks[0].attn
    theirs = torch.nn.MultiheadAttention(24, 3, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": attention.qkv.weight,
            "in_proj_bias": attention.qkv.bias,
            "out_proj.weight": attention.proj.weight,
            "out_proj.bias": attention.proj.bias,
        }
    )
    x = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(attention(x), theirs(x, x, x)[0])  # sums are ordered otherwise


def test_layers_are_projections_perceptrons_patches_and_head(network):
    names = [layer.name for layer in network.layers]
    block = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
    assert names == ["patch_embed.proj", *(f"blocks.{i}.{name}" for i in range(2) for name in block), "head"]
    tokens = 16 + 1
    assert [layer.macs for layer in network.layers[1:5]] == [tokens * 24 * n for n in (72, 24, 96, 96)]


def test_products_of_attention_are_operators_that_layers_feed(network):
    kinds = [operator.op for operator in network.spec.operators]
    assert kinds.count("matmul") == 4 and kinds.count("softmax") == 2
    products = [operator for operator in network.spec.operators if operator.op == "matmul"]
    heads, tokens = 3, 16 + 1
    assert products[0].in_counts == (heads * tokens * 8, heads * tokens * 8)
    assert products[1].in_counts == (heads * tokens * tokens, heads * tokens * 8)


def test_what_the_products_read_is_quantized_to_eight_bits(network, judge, images):
    judge.configure(uniform(network, 4, 4))
    seen = {}
    for (tensor, layer), quantizer in judge._quantizers.items():
        if layer is None:
            quantizer.register_forward_hook(lambda _, __, y, tensor=tensor: seen.update({tensor: len(y.unique())}))
    judge(images)
    read = {read.tensor for read in network.reads if "matmul" in read.node}
    assert len(read) == 2 * 4 and read <= set(seen)
    assert all(seen[tensor] <= 256 for tensor in read)


def test_more_bits_come_nearer_to_the_float_network(network, judge, images):
    judge.configure(dict.fromkeys((layer.name for layer in network.layers), hwsearch.FLOAT))
    logits = judge(images)
    errors = []
    for bits in (8, 4):
        judge.configure(uniform(network, bits, bits))
        errors.append(float((judge(images) - logits).square().mean() / logits.var()))
    assert errors[0] < 0.01 < errors[1] < 1


def test_an_analytic_device_prices_it(network):
    device = hwsearch.load_device(CONF / "hardware" / "bitfusion_isca_2018.yaml")
    costs = hwsearch.cost_table(network.layers, device)
    price = hwsearch.pricing(costs, network.spec, device)
    wide, narrow = (price(uniform(network, bits, bits)) for bits in (8, 4))
    assert build_space(network.layers, device)
    assert narrow["latency_s"] < wide["latency_s"] and narrow["energy_j"] < wide["energy_j"]


def test_an_integer_network_refuses_it_by_operator_and_node(network, judge):
    with pytest.raises(
        ValueError, match=r"Operator 'aten\.\w+\.\w+' \(node '\w+'\) has no integer form.*An integer network"
    ):
        lower(network, uniform(network, 8, 8), judge.database, judge.ranges)
