"""The steps of `three_lstms` written by hand in JAX: all inputs projected at once, then a scan."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.three_lstms import INNER_RATE, MISSING, OUTER_RATE, ROWS, UNITS, batch


def initial(key: Any, widths: dict[str, int]) -> dict[str, Any]:
    bound = UNITS**-0.5
    shapes: dict[str, Any] = {
        m: {"kernel": (width, 4 * UNITS), "recurrent": (UNITS, 4 * UNITS), "bias": (4 * UNITS,)}
        for m, width in widths.items()
    }
    shapes["head"] = {"kernel": (UNITS * len(widths), 1), "bias": (1,)}
    leaves, tree = jax.tree.flatten(shapes, is_leaf=lambda shape: isinstance(shape, tuple))
    keys = jax.random.split(key, len(leaves))
    draw = jax.random.uniform
    return jax.tree.unflatten(
        tree, [draw(k, s, minval=-bound, maxval=bound) for k, s in zip(keys, leaves, strict=True)]
    )


def lstm(weights: dict[str, Any], x: Any) -> Any:
    """The last state."""
    projected = jnp.swapaxes(x @ weights["kernel"] + weights["bias"], 0, 1)

    def step(state: Any, row: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(row + h @ weights["recurrent"], 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    zeros = jnp.zeros((x.shape[0], UNITS))
    return jax.lax.scan(step, (zeros, zeros), projected)[0][0]


def loss(theta: dict[str, Any], x: dict[str, Any], y: Any) -> Any:
    last = jnp.concatenate([lstm(theta[m], x[m]) for m in x], axis=-1)
    return jnp.mean((last @ theta["head"]["kernel"] + theta["head"]["bias"] - y) ** 2)


def with_holes(key: Any, x: dict[str, Any]) -> dict[str, Any]:
    """T(X; F): a random run of 40 to 60 % of the steps of each modality is zero."""
    low, high = MISSING
    cut = {}
    for number, (m, values) in enumerate(x.items()):
        rows, steps, _ = values.shape
        rate, place = jax.random.uniform(jax.random.fold_in(key, number), (2, rows, 1))
        count = jnp.floor(steps * (low + (high - low) * rate))
        start = jnp.floor((steps - count + 1) * place)
        time = jnp.arange(steps)
        cut[m] = jnp.where(((time >= start) & (time < start + count))[..., None], 0.0, values)
    return cut


def adam(theta: Any, moments: Any, gradients: Any, count: Any) -> tuple[Any, Any]:
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, moments[1], gradients)
    rate = OUTER_RATE * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
    theta = jax.tree.map(lambda t, m, v: t - rate * m / (jnp.sqrt(v) + 1e-7), theta, first, second)
    return theta, (first, second)


def _steps(gradient: Callable[..., Any], rows: int, tiny: bool) -> Callable[[int], None]:
    x, y = jax.device_put(batch(rows, tiny))
    theta = initial(jax.random.key(0), {m: values.shape[-1] for m, values in x.items()})
    zeros = jax.tree.map(jnp.zeros_like, theta)
    state = [theta, (zeros, jax.tree.map(jnp.copy, zeros)), jnp.ones(()), jax.random.key(1)]

    def step(state: Any, x: Any, y: Any) -> Any:
        theta, moments, count, key = state
        key, used = jax.random.split(key)
        theta, moments = adam(theta, moments, gradient(theta, used, x, y), count)
        return [theta, moments, count + 1, key]

    compiled = jax.jit(step, donate_argnums=0)

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state = compiled(state, x, y)
        jax.block_until_ready(state)

    return run


def plain(tiny: bool = False) -> Callable[[int], None]:
    """A plain step."""

    def gradient(theta: Any, key: Any, x: Any, y: Any) -> Any:
        return jax.grad(loss)(theta, x, y)

    return _steps(gradient, 4 if tiny else ROWS, tiny)


def m3s(tiny: bool = False) -> Callable[[int], None]:
    """M3S with K = 1, first order."""

    def gradient(theta: Any, key: Any, x: Any, y: Any) -> Any:
        keys = jax.random.split(key)
        x1 = with_holes(keys[0], {m: values[0::2] for m, values in x.items()})
        x2 = with_holes(keys[1], {m: values[1::2] for m, values in x.items()})
        inner = jax.grad(loss)(theta, x1, y[0::2])
        adapted = jax.tree.map(lambda t, g: t - INNER_RATE * g, theta, inner)
        return jax.grad(loss)(adapted, x2, y[1::2])

    return _steps(gradient, 2 * (4 if tiny else ROWS), tiny)
