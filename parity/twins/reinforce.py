"""Policy and critic, advantages and the losses of reinforcement learning, in torch's own words."""

import torch
from torch.distributions import Categorical


class Perceptron(torch.nn.Module):
    """Linear, tanh, Linear, tanh, Linear."""

    def __init__(self, in_features: int, hidden: int, out_features: int) -> None:
        super().__init__()
        self.fc1 = torch.nn.Linear(in_features, hidden)
        self.fc2 = torch.nn.Linear(hidden, hidden)
        self.fc3 = torch.nn.Linear(hidden, out_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc3(torch.tanh(self.fc2(torch.tanh(self.fc1(x)))))


class ActorCritic(torch.nn.Module):
    """Logits of the actions and values of the states."""

    def __init__(self, features: int, actions: int, hidden: int = 64) -> None:
        super().__init__()
        self.actor = Perceptron(features, hidden, actions)
        self.critic = Perceptron(features, hidden, 1)

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.actor(observation), self.critic(observation)[..., 0]


def advantages(
    reward: torch.Tensor,
    value: torch.Tensor,
    last_value: torch.Tensor,
    terminated: torch.Tensor,
    done: torch.Tensor,
    gamma: float,
    lam: float,
) -> torch.Tensor:
    """Generalized advantage estimation as its recursion is written down, all (T, N)."""
    found, later = torch.zeros_like(reward), torch.zeros_like(reward[0])
    for t in reversed(range(len(reward))):
        delta = reward[t] + gamma * (last_value[t] * ~terminated[t]) - value[t]
        later = delta + gamma * lam * (later * ~done[t])
        found[t] = later
    return found


def policy_gradient_loss(
    module: ActorCritic, batch: dict[str, torch.Tensor], value_weight: float, entropy_weight: float
) -> torch.Tensor:
    """The loss of torch's example of REINFORCE, with a baseline, as a mean over the steps that count."""
    counts = batch["weight"].bool()
    logits, value = module(batch["observation"][counts])
    policy = Categorical(logits=logits)
    loss = -(policy.log_prob(batch["action"][counts]) * batch["advantage"][counts]).mean()
    loss = loss + value_weight * torch.nn.functional.mse_loss(value, batch["return"][counts])
    return loss - entropy_weight * policy.entropy().mean()


def clipped_surrogate_loss(
    module: ActorCritic, batch: dict[str, torch.Tensor], clip: float, value_weight: float, entropy_weight: float
) -> torch.Tensor:
    """The loss of PPO."""
    logits, value = module(batch["observation"])
    policy = Categorical(logits=logits)
    ratio = (policy.log_prob(batch["action"]) - batch["log_prob"]).exp()
    clipped = torch.clamp(ratio, 1 - clip, 1 + clip)
    loss = -torch.min(ratio * batch["advantage"], clipped * batch["advantage"]).mean()
    loss = loss + value_weight * torch.nn.functional.mse_loss(value, batch["return"])
    return loss - entropy_weight * policy.entropy().mean()


def normalized(advantage: torch.Tensor) -> torch.Tensor:
    """Mean 0, standard deviation 1."""
    return (advantage - advantage.mean()) / (advantage.std(unbiased=False) + 1e-8)
