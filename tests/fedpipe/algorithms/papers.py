"""Every algorithm as its paper writes it, in plain NumPy: whole trainings over the shards of a folder.

A client that takes no local step takes no part. p_k of the papers is the weight of ``train.client_weighting``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fedpipe.config.train import Train
from fedpipe.learning.schedules import rate
from fedpipe.runtime.cohort import Cohort
from fedpipe.seeds import Purpose, generator
from tests.fedpipe.algorithms import reference
from tests.fedpipe.algorithms.reference import Samples, Weights, mean, moved
from tests.fedpipe.training import cohort_of, model_of


@dataclass
class Expected:
    """What a training ends with: weights; leaves of the server's state; what each client keeps, by id."""

    weights: Weights
    state: Weights = field(default_factory=list)
    kept: dict[int, Weights] = field(default_factory=dict)
    tolerance: float = reference.TOLERANCE  # of state and kept
    of_weights: float = reference.TOLERANCE


@dataclass
class Federation:
    settings: Train
    samples: list[Samples]
    first: Weights
    cohorts: Sequence[Cohort]

    @staticmethod
    def of(settings: Train, shards: Path, first: Weights, cohorts: Sequence[Sequence[int] | Cohort]) -> "Federation":
        clients = max(int(client) for cohort in cohorts for client in cohort_of(cohort).clients) + 1
        samples = [reference.samples_of(shards, client) for client in range(clients)]
        return Federation(settings, samples, first, [cohort_of(cohort) for cohort in cohorts])

    def rounds(self) -> list[dict[int, int]]:
        """For each round the clients that take part, and how much of their work they do in thousandths."""
        return [{k: work for k, work, *_ in rows(cohort) if self.steps(k, work)} for cohort in self.cohorts]

    def steps(self, client: int, work: int = 1000) -> int:
        return reference.step_count(self.settings, len(self.samples[client].y), work)

    def mass(self, client: int) -> float:
        return float(len(self.samples[client].y)) if self.settings.client_weighting == "examples" else 1.0

    @property
    def all_masses(self) -> float:
        return sum(self.mass(k) for k in range(len(self.samples)) if self.steps(k))

    def mean(self, parts: dict[int, Weights]) -> Weights:
        return mean(list(parts.values()), [self.mass(client) for client in parts])

    def zeros(self) -> Weights:
        return [np.zeros_like(w) for w in self.first]

    def update(
        self, weights: Weights, client: int, work: int, hook: reference.Hook = reference.same, number: int = 1
    ) -> Weights:
        client_rate = rate(self.settings.client_optimizer, number, self.settings.rounds)
        return reference.sgd(weights, self.samples[client], self.settings, client_rate, hook, work=work)[0]

    def step(self, weights: Weights, update: Weights) -> Weights:
        return moved(weights, update, self.settings.server_optimizer.learning_rate)

    def loss(self, weights: Weights, client: int) -> float:
        return float(reference.losses_and_gradient(weights, self.samples[client])[0].mean())

    def gradient(self, weights: Weights, client: int) -> Weights:
        return reference.losses_and_gradient(weights, self.samples[client])[1]


def rows(cohort: Cohort) -> list[tuple[int, int, bool, bool]]:
    """Of each request: the client, its work in thousandths, whether it trains, whether its update arrives."""
    requests = cohort.requests
    columns = (requests.id, requests.work, requests.trains, requests.reports)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def added(strength: float, center: Weights) -> reference.Hook:
    """Adds the gradient of strength / 2 ||w - center||^2."""
    factor = np.float32(strength)
    return lambda gradients, now: [g + factor * (w - c) for g, w, c in zip(gradients, now, center, strict=True)]


def fed_avg(fed: Federation) -> Expected:
    weights = fed.first
    for clients in fed.rounds():
        weights = fed.step(weights, fed.mean({k: fed.update(weights, k, work) for k, work in clients.items()}))
    return Expected(weights)


def fed_prox(fed: Federation) -> Expected:
    weights, mu = fed.first, fed.settings.params_of("algorithm").mu
    for clients in fed.rounds():
        pull = added(mu, weights)
        weights = fed.step(weights, fed.mean({k: fed.update(weights, k, work, pull) for k, work in clients.items()}))
    return Expected(weights)


def fed_sgd(fed: Federation) -> Expected:
    weights = fed.first
    for clients in fed.rounds():
        weights = fed.step(weights, fed.mean({k: fed.gradient(weights, k) for k in clients}))
    return Expected(weights)


def lengths(momentum: float, steps: int) -> float:
    """||a||_1: the gradient of step j counts 1 + momentum + ... + momentum^(steps - j) times."""
    return sum(sum(momentum**power for power in range(steps - j + 1)) for j in range(1, steps + 1))


def fed_nova(fed: Federation) -> Expected:
    weights, momentum = fed.first, fed.settings.client_optimizer.momentum
    for clients in fed.rounds():
        norms = {k: lengths(momentum, fed.steps(k, work)) for k, work in clients.items()}
        normalised = {
            k: [u / np.float32(norms[k]) for u in fed.update(weights, k, work)] for k, work in clients.items()
        }
        effective = sum(fed.mass(k) * norms[k] for k in clients) / sum(map(fed.mass, clients))
        weights = fed.step(weights, [np.float32(effective) * d for d in fed.mean(normalised)])
    return Expected(weights)


def scaffold(fed: Federation) -> Expected:
    """c is the mean of all c_k with the weights of the update; in the paper all weights are 1."""
    weights, control, controls = fed.first, fed.zeros(), [fed.zeros() for _ in fed.samples]
    for number, clients in enumerate(fed.rounds(), 1):
        client_rate, updates, before = (
            rate(fed.settings.client_optimizer, number, fed.settings.rounds),
            {},
            list(controls),
        )
        for k, work in clients.items():

            def corrected(gradients: Weights, now: Weights, mine: Weights = before[k]) -> Weights:
                return [g + c - m for g, c, m in zip(gradients, control, mine, strict=True)]  # noqa: B023

            updates[k] = fed.update(weights, k, work, corrected, number)
            if fed.settings.params_of("algorithm").option == 1:
                controls[k] = fed.gradient(weights, k)
            else:
                way = np.float32(client_rate * lengths(fed.settings.client_optimizer.momentum, fed.steps(k, work)))
                parts = zip(before[k], control, updates[k], strict=True)
                controls[k] = [m - c + u / way for m, c, u in parts]
        weights = fed.step(weights, fed.mean(updates))
        for k in clients:
            share = np.float32(fed.mass(k) / fed.all_masses)
            control = [c + share * (new - old) for c, new, old in zip(control, controls[k], before[k], strict=True)]
    # A control variate is a quotient by steps x rate: its rounding is larger than that of weights.
    return Expected(weights, control, dict(enumerate(controls)), tolerance=5e-6)


def fed_dyn(fed: Federation) -> Expected:
    weights, h, own = fed.first, fed.zeros(), [fed.zeros() for _ in fed.samples]
    alpha = np.float32(fed.settings.params_of("algorithm").alpha)
    for clients in fed.rounds():
        updates = {}
        for k, work in clients.items():

            def regularised(gradients: Weights, now: Weights, mine: Weights = own[k]) -> Weights:
                parts = zip(gradients, mine, now, weights, strict=True)  # noqa: B023
                return [g - m + alpha * (w - first) for g, m, w, first in parts]

            updates[k] = fed.update(weights, k, work, regularised)
        for k, update in updates.items():
            own[k] = [mine + alpha * u for mine, u in zip(own[k], update, strict=True)]
            share = np.float32(fed.mass(k) / fed.all_masses)
            h = [part + alpha * share * u for part, u in zip(h, update, strict=True)]
        weights = [w - u - part / alpha for w, u, part in zip(weights, fed.mean(updates), h, strict=True)]
    return Expected(weights, [part / alpha for part in h], dict(enumerate(own)), tolerance=1e-5)


def mime(fed: Federation, corrects: bool = True) -> Expected:
    weights, momentum = fed.first, fed.zeros()
    beta = np.float32(fed.settings.params_of("algorithm").beta)
    for clients in fed.rounds():
        common, updates = fed.mean({k: fed.gradient(weights, k) for k in clients}), {}
        for k, work in clients.items():
            batches = reference.batches(fed.samples[k], fed.settings)

            def mimicked(gradients: Weights, now: Weights, batches=batches) -> Weights:  # type: ignore[no-untyped-def]
                if corrects:
                    first = reference.losses_and_gradient(weights, next(batches))[1]  # noqa: B023
                    gradients = [g - f + c for g, f, c in zip(gradients, first, common, strict=True)]  # noqa: B023
                return [(1 - beta) * g + beta * s for g, s in zip(gradients, momentum, strict=True)]  # noqa: B023

            updates[k] = fed.update(weights, k, work, mimicked)
        weights = fed.step(weights, fed.mean(updates))
        momentum = [(1 - beta) * c + beta * s for c, s in zip(common, momentum, strict=True)]
    return Expected(weights, momentum)


def mime_lite(fed: Federation) -> Expected:
    return mime(fed, corrects=False)


def q_fed_avg(fed: Federation) -> Expected:
    weights, q = fed.first, fed.settings.params_of("algorithm").q
    optimizer = fed.settings.client_optimizer
    smoothness = (1 - optimizer.momentum) / optimizer.learning_rate
    for clients in fed.rounds():
        deltas, masses = [], []
        for k, work in clients.items():
            loss, update = fed.loss(weights, k), [smoothness * u for u in fed.update(weights, k, work)]
            deltas.append([loss**q * part for part in update])
            length = sum(float(np.square(part).sum()) for part in update)
            masses.append(q * loss ** (q - 1) * length + smoothness * loss**q)
        weights = fed.step(weights, [sum(parts) / np.float32(sum(masses)) for parts in zip(*deltas, strict=True)])
    return Expected([w.astype(np.float32) for w in weights])


def projected(values: np.ndarray) -> np.ndarray:
    """The point of the simplex next to ``values``, by bisection for the shift that makes the sum 1."""
    low, high = values.min() - 1, values.max()
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(values - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(values - low, 0)


def afl(fed: Federation) -> Expected:
    weights, number = fed.first, len(fed.samples)
    shares = np.full(number, 1 / number)
    for clients in fed.rounds():
        losses = np.array([fed.loss(weights, k) if k in clients else 0.0 for k in range(number)])
        updates = [fed.update(weights, k, work) for k, work in clients.items()]
        weights = fed.step(weights, mean(updates, [shares[k] for k in clients]))
        shares = projected(shares + fed.settings.params_of("algorithm").rate * losses)
    return Expected(weights, [shares])


def ifca(fed: Federation) -> Expected:
    clusters = fed.settings.params_of("algorithm").clusters
    network, seed = model_of(fed.settings), fed.settings.seed
    models = [network.first_weights(generator(seed, Purpose.CLUSTERS, client=j)) for j in range(clusters)]
    weights = fed.first
    for clients in fed.rounds():
        chosen = {k: int(np.argmin([fed.loss(model, k) for model in models])) for k in clients}
        seen = [0] * clusters
        for k, work in clients.items():
            seen[chosen[k]] += sum(len(batch.y) for batch in reference.taken(fed.samples[k], fed.settings, work))
        for j in range(clusters):
            mine = {k: fed.update(models[j], k, work) for k, work in clients.items() if chosen[k] == j}
            models[j] = fed.step(models[j], fed.mean(mine)) if mine else models[j]
        weights = models[int(np.argmax(seen))] if clients else weights
    return Expected(weights, [np.stack(parts) for parts in zip(*models, strict=True)])


def ditto(fed: Federation) -> Expected:
    weights, lam = fed.first, fed.settings.params_of("algorithm").lam
    own: dict[int, Weights] = {}
    for clients in fed.rounds():
        for k, work in clients.items():
            mine = own.get(k, weights)
            own[k] = moved(mine, fed.update(mine, k, work, added(lam, weights)))
        weights = fed.step(weights, fed.mean({k: fed.update(weights, k, work) for k, work in clients.items()}))
    return Expected(weights, kept=started(own, fed, 0))


def started(own: dict[int, Weights], fed: Federation, base: int) -> dict[int, Weights]:
    """What each client keeps: whether it has trained, and its own weights from ``base`` on."""
    none = [np.zeros(1, np.float32), *fed.zeros()[base:]]
    return {k: [np.ones(1, np.float32), *own[k]] if k in own else none for k in range(len(fed.samples))}


def fed_per(fed: Federation) -> Expected:
    base = len(fed.first) - 2 * fed.settings.params_of("algorithm").layers
    weights, heads = fed.first, dict[int, Weights]()
    for clients in fed.rounds():
        updates = {}
        for k, work in clients.items():
            mine = weights[:base] + heads.get(k, fed.first[base:])
            update = fed.update(mine, k, work)
            heads[k], updates[k] = moved(mine, update)[base:], update[:base]
        weights = fed.step(weights[:base], fed.mean(updates)) + fed.first[base:]
    return Expected(weights, kept=started(heads, fed, base))


def fed_bn(fed: Federation) -> Expected:
    """The base is averaged; each client keeps the weights and the statistics of batch normalization."""
    from tests.fedpipe.algorithms.by_keras import KerasClient

    client = KerasClient(fed.settings, is_dense=True)

    def split(weights: Weights) -> tuple[Weights, Weights]:
        parts = list(zip(client.is_batch_norm, weights, strict=True))
        return [w for is_own, w in parts if not is_own], [w for is_own, w in parts if is_own]

    (base, first), own = split(fed.first), dict[int, Weights]()

    def whole(base: Weights, mine: Weights) -> Weights:
        bases, others = iter(base), iter(mine)
        return [next(others if is_own else bases) for is_own in client.is_batch_norm]

    for clients in fed.rounds():
        updates = {}
        for k, work in clients.items():
            after = client.trained(whole(base, own.get(k, first)), fed.samples[k], work)
            trained, own[k] = split(after)
            updates[k] = [before - w for before, w in zip(base, trained, strict=True)]
        base = fed.step(base, fed.mean(updates))
    none = [np.zeros(1, np.float32), *map(np.zeros_like, first)]
    kept = {k: [np.ones(1, np.float32), *own[k]] if k in own else none for k in range(len(fed.samples))}
    return Expected(whole(base, first), kept=kept, tolerance=1e-5, of_weights=1e-5)


def fed_rep(fed: Federation) -> Expected:
    params = fed.settings.params_of("algorithm")
    base = len(fed.first) - 2 * params.layers
    weights, heads = fed.first, dict[int, Weights]()
    longer = Federation(
        fed.settings.model_copy(update={"local_epochs": params.head_epochs}), fed.samples, fed.first, fed.cohorts
    )

    def head_only(gradients: Weights, now: Weights) -> Weights:
        return [np.zeros_like(g) for g in gradients[:base]] + gradients[base:]

    def base_only(gradients: Weights, now: Weights) -> Weights:
        return gradients[:base] + [np.zeros_like(g) for g in gradients[base:]]

    for clients in fed.rounds():
        updates = {}
        for k, work in clients.items():
            mine = weights[:base] + heads.get(k, fed.first[base:])
            mine = moved(mine, longer.update(mine, k, work, head_only))
            heads[k], updates[k] = mine[base:], fed.update(mine, k, work, base_only)[:base]
        weights = fed.step(weights[:base], fed.mean(updates)) + fed.first[base:]
    return Expected(weights, kept=started(heads, fed, base))


def fed_buff(fed: Federation) -> Expected:
    weights, exponent = fed.first, fed.settings.params_of("algorithm").exponent
    under_way: dict[int, tuple[int, Weights]] = {}
    for number, cohort in enumerate(fed.cohorts, 1):
        arrived, masses = [], []  # of a client that starts again and is quick, two updates
        for k, work, trains, reports in rows(cohort):
            if trains:
                under_way[k] = number, fed.update(weights, k, work)
            if reports:
                since, update = under_way[k]
                arrived.append([np.float32((1 + number - since) ** -exponent) * u for u in update])
                masses.append(fed.mass(k))
        weights = fed.step(weights, mean(arrived, masses)) if arrived else weights
    return Expected(weights)


def fed_async(fed: Federation) -> Expected:
    weights, params = fed.first, fed.settings.params_of("algorithm")
    factors: dict[str, Callable[[int], float]] = {
        "constant": lambda s: 1.0,
        "polynomial": lambda s: (1 + s) ** -params.exponent,
        "hinge": lambda s: 1.0 if s <= params.late else 1 / (params.slope * (s - params.late) + 1),
    }
    models: dict[int, tuple[int, Weights]] = {}
    for number, cohort in enumerate(fed.cohorts, 1):
        before = weights
        for k, work, trains, reports in rows(cohort):
            if trains:
                models[k] = number, moved(before, fed.update(before, k, work, added(params.mu, before)))
            if reports:
                since, model = models[k]
                share = np.float32(params.alpha * factors[params.staleness](number - since))
                weights = [(1 - share) * w + share * mine for w, mine in zip(before, model, strict=True)]
    return Expected(weights)
