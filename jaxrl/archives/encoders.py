"""Encoders, which compute the descriptor from what a task observes: the identity, or learned."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl import networks, normalize
from jaxrl.errors import check_counts
from jaxrl.normalize import Running
from jaxrl.optimizer import is_due
from jaxrl.tree import leaf, pytree, static

EncoderState = Any


@pytree
class Encoder:
    """Base class of encoders, and the identity, for tasks that return descriptors.

    learns: True for an encoder that `learn` changes; a class attribute.
    """

    learns = False

    def init(self, key: jax.Array, observed: jax.Array) -> EncoderState:
        """Return the initial state; () without one. observed: an example. [O]."""
        return ()

    def __call__(self, state: EncoderState, observed: jax.Array) -> jax.Array:
        """The descriptor [D] of what a task observed for one genotype [O]."""
        return observed

    def learn(
        self,
        key: jax.Array,
        state: EncoderState,
        observed: jax.Array,
        valid: jax.Array,
        iteration: jax.Array,
    ) -> tuple[EncoderState, jax.Array]:
        """Return the state after an iteration, counted from 1, and True if it has changed. [].

        observed: of the elites [C, O]. valid: False for those to ignore. [C].
        """
        return state, jnp.bool_(False)


@pytree
class Trained:
    """The parameters of an encoder and a decoder, and the statistics that standardize inputs."""

    params: Any
    stats: Running


@pytree
class Autoencoder(Encoder):
    """The latent code of an autoencoder, trained on what the task observed of the elites (TAXONS,
    Paolo et al., 2020; AURORA, Cully, 2019). Codes are between -1 and 1.

    Use a task that returns an observation in place of a descriptor, such as
    `PolicyTask(env, last_observation)`, and cells of the codes,
    `Grid.between(-1.0, 1.0, (32, 32))`.

    train_every: the autoencoder is trained after the first iteration and every `train_every`
    iterations after it. Training continues from the current parameters, as in TAXONS.
    train_steps, batch_size, lr: of Adam, each time. size: number of entries of a code, D.
    """

    lr: float = leaf(1e-3, "[0, inf)")
    train_every: int = static(default=30)
    train_steps: int = static(default=200)
    batch_size: int = static(default=64)
    size: int = static(default=2)
    network: networks.Builder = static(default=networks.MLP((64,)))

    learns = True

    def __post_init__(self) -> None:
        check_counts(self, "train_every", "train_steps", "batch_size", "size")

    def _networks(self, num_inputs: int) -> tuple[networks.Network, networks.Network]:
        return self.network({"code": self.size}), self.network({"inputs": num_inputs})

    def init(self, key: jax.Array, observed: jax.Array) -> Trained:
        key_encoder, key_decoder = jax.random.split(key)
        encoder, decoder = self._networks(observed.shape[0])
        params = (
            encoder.init(key_encoder, observed),
            decoder.init(key_decoder, jnp.zeros(self.size)),
        )
        return Trained(params, normalize.init_running(observed))

    def __call__(self, state: Trained, observed: jax.Array) -> jax.Array:
        return self._code(state.params, normalize.standardize(state.stats, observed, 5.0))

    def _code(self, params: Any, inputs: jax.Array) -> jax.Array:
        encoder, _ = self._networks(inputs.shape[0])
        return jnp.tanh(encoder.apply(params[0], inputs)["code"])

    def error(self, state: Trained, observed: jax.Array) -> jax.Array:
        """The mean squared reconstruction error of one standardized observation. []."""
        return self._error(state.params, normalize.standardize(state.stats, observed, 5.0))

    def _error(self, params: Any, inputs: jax.Array) -> jax.Array:
        _, decoder = self._networks(inputs.shape[0])
        output = decoder.apply(params[1], self._code(params, inputs))["inputs"]
        return jnp.mean((output - inputs) ** 2)

    def learn(
        self,
        key: jax.Array,
        state: Trained,
        observed: jax.Array,
        valid: jax.Array,
        iteration: jax.Array,
    ) -> tuple[Trained, jax.Array]:
        due = is_due(iteration - 1, self.train_every)
        words, impl = jax.random.key_data(key), jax.random.key_impl(key)

        def train(state: Trained) -> Trained:
            return self._train(jax.random.wrap_key_data(words, impl=impl), state, observed, valid)

        return jax.lax.cond(due, train, lambda state: state, state), due

    def _train(
        self, key: jax.Array, state: Trained, observed: jax.Array, valid: jax.Array
    ) -> Trained:
        share = valid / jnp.maximum(valid.sum(), 1)
        mean = share @ observed
        variance = share @ (observed - mean[None]) ** 2
        stats = Running(mean, variance, valid.sum().astype(jnp.float32))
        optimizer = optax.adam(self.lr)

        def step(now: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], None]:
            params, opt_state = now
            logits = jnp.where(valid, 0.0, -jnp.inf)
            rows = jax.random.categorical(key, logits, shape=(self.batch_size,))
            inputs = normalize.standardize(stats, observed[rows], 5.0)
            loss = lambda params: jax.vmap(lambda x: self._error(params, x))(inputs).mean()
            changes, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
            return (optax.apply_updates(params, changes), opt_state), None

        start = state.params, optimizer.init(state.params)
        (params, _), _ = jax.lax.scan(step, start, jax.random.split(key, self.train_steps))
        return Trained(params, stats)
