"""What every test runs under: mistakes of rank and of keys are errors.

Third parties that make them are named where used.
"""

import os
import tempfile

# programs that run once or twice: LLVM's best takes a third longer to compile, and they hardly run
# faster
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1"

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

# What a test, or a process that it starts, has compiled is not compiled again; and none of it is
# from an earlier run.
CACHE = tempfile.TemporaryDirectory(prefix="jaxrl-tests-", ignore_cleanup_errors=True)
for name, value in {
    "jax_compilation_cache_dir": CACHE.name,
    "jax_persistent_cache_min_compile_time_secs": 0,
}.items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)
