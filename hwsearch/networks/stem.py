"""The two input sizes that a network's first layers can be made for."""


def is_small(stem: str) -> bool:
    """Whether ``stem`` is "cifar" (32x32 inputs, little downsampling) and not "imagenet" (224x224 or 299x299).

    Raises:
        ValueError: If it is neither.
    """
    if stem not in ("cifar", "imagenet"):
        raise ValueError(f"model.network.stem={stem!r} is unknown; use 'cifar' (32x32 inputs) or 'imagenet'.")
    return stem == "cifar"
