"""A greedy policy in NumPy alone: `policy.py` reads the arrays of `policy.npz` beside it.

policy = Policy()
policy.reset()              # at the start of each episode
action = policy(obs)        # of one observation; policy(obs, mask) with the allowed actions
"""

import pathlib

import numpy as np

ACTIVATIONS = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0.0),
    "elu": lambda x: np.where(x > 0.0, x, np.expm1(np.minimum(x, 0.0))),
    "silu": lambda x: x * sigmoid(x),
}


def sigmoid(x):
    return 0.5 + 0.5 * np.tanh(0.5 * x)


class Policy:
    def __init__(self, path=None):
        path = path or pathlib.Path(__file__).with_name("policy.npz")
        with np.load(path, allow_pickle=False) as file:
            self.arrays = dict(file)
        self.reset()

    def reset(self):
        self.hidden = self.cell = np.zeros(len(self.arrays.get("memory_hidden", ())), np.float32)

    def __call__(self, obs, mask=None):
        p, x = self.arrays, np.asarray(obs, np.float32).ravel()
        if x.size != np.prod(p["obs_shape"]):
            expected = f"one observation of shape {p['obs_shape'].tolist()}"
            raise ValueError(f"This policy takes {expected}, and got {list(np.shape(obs))}.")
        if "obs_mean" in p:
            x = np.clip((x - p["obs_mean"]) / np.sqrt(p["obs_variance"] + 1e-8), -10.0, 10.0)
        for i in range(int(p["num_layers"])):
            x = x @ p[f"kernel_{i}"] + p[f"bias_{i}"]
            if "layer_norm" in p:
                x = (x - x.mean()) / np.sqrt(x.var() + 1e-6) * p[f"scale_{i}"] + p[f"shift_{i}"]
            x = ACTIVATIONS[str(p["activation"])](x)
        if "memory_hidden" in p:
            x = self.remember(x @ p["memory_input"] + p["memory_bias"])
        x = x @ p["out_kernel"] + p["out_bias"]
        if "sizes" in p:  # one number of actions, or several
            mask, ends = np.ones(len(x), bool) if mask is None else mask, np.cumsum(p["sizes"])[:-1]
            parts = zip(np.split(x, ends), np.split(np.asarray(mask), ends), strict=True)
            choices = [np.where(ok | ~ok.any(), x, -np.inf).argmax() for x, ok in parts]
            return np.array(choices).reshape(p["shape"])[()]
        x = np.tanh(x) if "tanh" in p else x
        return np.clip(p["middle"] + p["half"] * x, p["low"], p["high"]).reshape(p["shape"])

    def remember(self, x):
        """One step of a GRU or an LSTM with inputs x to its gates."""
        h = self.hidden @ self.arrays["memory_hidden"]
        if "memory_new_bias" in self.arrays:  # a GRU
            (reset, update, new), (h_reset, h_update, h_new) = np.split(x, 3), np.split(h, 3)
            h_new = h_new + self.arrays["memory_new_bias"]
            new = np.tanh(new + sigmoid(reset + h_reset) * h_new)
            keep = sigmoid(update + h_update)
            self.hidden = (1.0 - keep) * new + keep * self.hidden
        else:
            write, forget, new, output = np.split(x + h, 4)
            self.cell = sigmoid(forget + 1.0) * self.cell + sigmoid(write) * np.tanh(new)
            self.hidden = sigmoid(output) * np.tanh(self.cell)
        return self.hidden
