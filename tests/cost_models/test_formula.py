"""Formulas of device files: what they compute, and what they refuse."""

import pytest

from cost_models import LayerSpec
from cost_models.formula import FUNCTIONS, NAMES, check_formula, evaluate, shape_values

CONV = LayerSpec("conv", "conv2d", 32, 64, (3, 5), groups=2, in_size=(10, 12), out_size=(8, 9))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("2 * 3 + 4 // 3 - 7 % 4 + 2 ** 3 / 4", 6 + 1 - 3 + 2),
        ("-floor(-2.5)", 3),
        ("ceil(in_channels / 3) * taps", 6 * 15),
        ("max(1, min(positions, 10))", 10),
        ("1 if linear else 2 if not depthwise and kernel_h < 5 else 3", 2),
        ("log2(8)", 3),
        ("1e9", 1e9),
    ],
)
def test_formulas_are_pythons_arithmetic(text, value) -> None:
    assert evaluate(check_formula(text), shape_values(CONV)) == value


def test_numbers_are_formulas() -> None:
    assert evaluate(2.5, {}) == 2.5


def test_every_name_about_a_shape_has_its_value() -> None:
    values = shape_values(CONV)
    assert set(NAMES) - set(values) == {"batch", "weight_bits", "activation_bits", "output_bits"}
    assert values["in_channels"] * values["groups"] == 32
    assert values["out_channels"] * values["groups"] == 64
    assert values["macs"] == 64 * 16 * 15 * 72 == values["weights"] * values["positions"]
    assert (values["inputs"], values["outputs"]) == (32 * 120, 64 * 72)
    assert (values["linear"], values["depthwise"]) == (0, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 *", "'2 *' is no arithmetic: "),
        ("channels * 2", "'channels' is no quantity of a layer; choose from ['activation_bits', 'batch',"),
        ("round(2)", f"'round' is no function; choose from {sorted(FUNCTIONS)}"),
        ("macs.real", "'macs.real' is no arithmetic; use numbers, names, functions"),
        ("__import__('os')", "'__import__' is no function"),
        ("(1).__class__", "is no arithmetic"),
        ("'text'", "is no arithmetic"),
        ("[1, 2]", "'[1, 2]' is no arithmetic"),
        ("lambda: 1", "is no arithmetic"),
        ("max(1, default=2)", "is no arithmetic"),
        ("(x := 1)", "is no arithmetic"),
    ],
)
def test_anything_else_is_refused(text, message) -> None:
    with pytest.raises(ValueError) as error:
        check_formula(text)
    assert message in str(error.value)


def test_a_formula_without_a_value_is_named() -> None:
    with pytest.raises(ValueError, match=r"'macs / linear' has no value: division by zero"):
        evaluate("macs / linear", shape_values(CONV))
