"""Any training code can be swept: two models in raw JAX, without layers or optimizers of purenet.

A sweep needs a `Trainable(init, epoch, evaluate)`: three functions of arrays. Here one does Newton
steps of a logistic regression, which needs only a few epochs; the other is an agent that learns
from payouts which of ten slot machines pays best. The machines are the agent's data.

    python examples/sweep_any_code.py --quick
"""

import common
import jax
import jax.numpy as jnp
import numpy as np

from purenet import Trainable, plots, sweep, use_cpu_cores

use_cpu_cores()


# logistic regression by Newton steps (iteratively reweighted least squares): is it an eight?
def newton(hyper):
    """minimise  mean log(1 + exp(-s xw)) + ridge |w|²/2,  s = ±1, by  w ← w - damping H⁻¹ g."""

    def with_bias(x):
        return jnp.concatenate([x, jnp.ones((len(x), 1))], axis=1)

    def init(key):
        del key  # nothing is random
        return jnp.zeros(65)

    def epoch(w, data):
        x, t = with_bias(data[0]), data[1]
        p = jax.nn.sigmoid(x @ w)
        gradient = x.T @ (p - t) / len(t) + hyper["ridge"] * w  # (65,)
        hessian = (x.T * (p * (1 - p))) @ x / len(t) + hyper["ridge"] * jnp.eye(65)
        return w - hyper["damping"] * jnp.linalg.solve(hessian, gradient), {}

    def evaluate(w, data):
        z, t = with_bias(data[0]) @ w, data[1]
        loss = jnp.mean(jnp.logaddexp(0.0, z) - t * z)
        return {"loss": loss, "accuracy": jnp.mean((z > 0) == t)}

    return Trainable(init, epoch, evaluate)


# a bandit: REINFORCE with a baseline (Williams, 1992; Sutton & Barto, section 2.8)
def bandit(hyper):
    """Pull arm a with probability p = softmax(preferences / temperature), be paid r, and go
    preferences ← preferences + step (r - baseline) (onehot(a) - p) / temperature."""

    def policy(preferences, age):
        temperature = 1 + (hyper["temperature"] - 1) * 0.9**age  # cools, or warms, to 1
        return jax.nn.softmax(preferences / temperature), temperature

    def init(key):
        preferences, baseline = jnp.zeros(10), jnp.zeros(())
        return {"preferences": preferences, "baseline": baseline, "age": 0, "key": key}

    def epoch(state, means):
        def pull(carry, key):
            preferences, baseline = carry
            p, temperature = policy(preferences, state["age"])
            for_arm, for_pay = jax.random.split(key)
            arm = jax.random.categorical(for_arm, jnp.log(p))
            pay = means[arm] + jax.random.normal(for_pay)
            slope = (jnp.arange(10) == arm) - p
            preferences += hyper["step"] * (pay - baseline) * slope / temperature
            baseline += (1 - hyper["memory"]) * (pay - baseline)
            return (preferences, baseline), pay

        keys = jax.random.split(jax.random.fold_in(state["key"], state["age"]), 20)
        start = (state["preferences"], state["baseline"])
        (preferences, baseline), pay = jax.lax.scan(pull, start, keys)
        new = {"preferences": preferences, "baseline": baseline, "age": state["age"] + 1}
        return state | new, {"pay": pay.mean()}

    def evaluate(state, means):
        p, _ = policy(state["preferences"], state["age"])
        return {"reward": p @ means, "entropy": -(p * jnp.log(p + 1e-30)).sum()}

    return Trainable(init, epoch, evaluate)


chosen = common.options(__doc__, trials=64)
assert chosen.data == "digits", "this example is made for the digits"
if chosen.quick:
    chosen.trials = 16

print("Newton steps: is it an eight?")
parts = common.images(chosen, flatten=True)
eights = tuple((x, (t == 8).astype(np.float32)) for x, t in parts)
space = {"ridge": sweep.loguniform(1e-7, 10.0), "damping": sweep.uniform(0.1, 1.5)}
found = sweep.run(
    newton, space, eights, chosen.trials, 20, chosen.seed, search=sweep.sobol, metric="loss"
)
print(found.table(5))
best, losses = found.best(), found.curves["validation"]["loss"]
strong = losses[found.hyper["ridge"] > 0.5, -1].min()
print(f"best loss {best.score:.4f}, of those with a ridge above 0.5 {strong:.4f}")
assert best.metrics["validation"]["accuracy"] > 0.95, "Newton's steps did not learn"
assert best.score < 0.5 * strong, "the ridge should matter"
found.plot_slices(chosen.out / "any_newton.png")
curves = {
    f"ridge {hyper['ridge']:.1e}, damping {hyper['damping']:.2f}": losses[number]
    for number, hyper, *_ in found.best(4)
}
plots.curves(chosen.out / "any_newton_curves.png", curves, "Newton steps", y_label="loss")

print("\nA bandit: ten machines, whose mean pay is the data.")
means = jax.random.normal(jax.random.key(chosen.seed), (10,))
space = {
    "step": sweep.loguniform(1e-3, 10.0),
    "memory": sweep.uniform(0.0, 0.99),  # of the baseline; 0: it is the last pay
    "temperature": sweep.loguniform(0.1, 10.0),  # at the beginning
}
found = sweep.run(
    bandit, space, (means, means), chosen.trials, 30, chosen.seed,
    search=sweep.sobol, seeds=8, metric="reward", mode="max",
)  # fmt: skip
print(found.table(5))
best = found.best()
print(f"the best machine pays {means.max():.3f}, the average one {means.mean():.3f}")
print(f"the best agent gets {best.score:.3f} ± {best.interval:.3f} over {best.runs} seeds")
assert best.score > 0.9 * means.max(), "the agents did not find the best machine"
timid = found.curves["validation"]["reward"][found.hyper["step"] < 3e-3, -1].mean()
print(f"agents with a step below 0.003 get {timid:.3f}")
assert timid < 0.5 * best.score, "the step should matter"
found.plot_slices(chosen.out / "any_bandit.png")
