"""What every test runs under: mistakes of rank and of keys are errors. Third parties that make them are named where used."""

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
