"""The container of everything: what is structure, what is a leaf, and what the errors say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl as rl
from jaxrl import tree
from jaxrl.errors import check_counts
from jaxrl.sweep import provenance


@rl.pytree
class Inner:
    gamma: float = 0.9
    size: int = rl.static(default=3)


@rl.pytree
class Outer:
    inner: Inner = Inner()
    other: Inner = Inner()
    lr: float = 0.1


def test_floats_are_leaves_and_counts_are_structure():
    assert jax.tree.leaves(Inner()) == [0.9]
    assert jax.tree.structure(Inner(size=3)) != jax.tree.structure(Inner(size=4))


def test_a_subclass_inherits_the_check_of_its_base():
    @rl.pytree
    class Base:
        size: int = rl.static(default=3)

        def __post_init__(self):
            check_counts(self, "size", min_value=2)

    @rl.pytree
    class Derived(Base):
        pass

    assert Derived(size=2).size == 2
    for size in (1, 2.5):
        with pytest.raises(ValueError, match="size=2 or more"):
            Derived(size=size)


def test_an_array_in_a_static_field_is_refused():
    with pytest.raises(TypeError, match=r"Inner\.size is static.*size=2"):
        Inner(size=jnp.array([2, 4]))
    with pytest.raises(TypeError, match="is static"):
        jax.jit(lambda n: Inner(size=n).gamma)(3)


def test_where_chooses_whole_records():
    new, old = (
        {"a": jnp.ones((2, 3)), "b": jnp.ones(2)},
        {"a": jnp.zeros((2, 3)), "b": jnp.zeros(2)},
    )
    chosen = tree.where(jnp.array([True, False]), new, old)
    np.testing.assert_array_equal(chosen["a"], [[1, 1, 1], [0, 0, 0]])
    np.testing.assert_array_equal(chosen["b"], [1, 0])


def test_leaves_are_found_by_name():
    assert tree.put(Outer(), {"lr": 0.5, "inner.gamma": 0.3}) == Outer(inner=Inner(0.3), lr=0.5)
    with pytest.raises(ValueError, match=r"ambiguous.*inner\.gamma, other\.gamma"):
        tree.put(Outer(), {"gamma": 0.5})
    with pytest.raises(ValueError, match=r"no field 'lrr'; the nearest are lr"):
        tree.put(Outer(), {"lrr": 0.5})


def test_what_is_named_twice_or_in_one_text_is_refused():
    agent = rl.OnPolicy()
    assert list(tree.parts(agent, ("lr", "clip"))) == ["lr", "clip"]
    for names in (
        ("clip", "rule.objective.clip"),
        ("clip", "objective"),
        ("objective", "clip"),
        ("lr", "lr"),
    ):
        with pytest.raises(ValueError, match="name it once"):
            tree.parts(agent, names)
    with pytest.raises(TypeError, match=r"write \('lr',\)"):
        tree.parts(agent, "lr")


def test_is_finite_sees_any_float_and_only_floats():
    assert tree.is_finite({"a": jnp.ones(2), "n": jnp.array(3)})
    assert not tree.is_finite({"a": jnp.ones(2), "b": jnp.array([1.0, jnp.nan])})


@tree.pytree
class Grown:
    old: float = 1.0
    new: float | None = tree.added(None)
    count: bool = tree.static(default=False, added=True)


def test_a_record_omits_an_added_field_at_its_default():
    names = lambda value: [field.name for field in tree.recorded_fields(value)]
    assert names(Grown()) == ["old"]
    assert names(Grown(new=2.0, count=True)) == ["old", "new", "count"]
    assert provenance.describe(Grown()) == {"type": "Grown", "old": 1.0}
