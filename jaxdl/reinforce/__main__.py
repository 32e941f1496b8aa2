"""Trains a policy by reinforcement: ``python -m jaxdl.reinforce --algorithm ppo --seeds 5``.

Needs gymnax: ``pip install 'jaxdl[rl]'``. Exit status: 0 complete; 1 failed; 2 a wrong option; 130 or 143 stopped
by Ctrl-C or SIGTERM, saved, and goes on with ``--resume``.
"""

import dataclasses
import sys

from jaxdl import files
from jaxdl.command_line import command_line
from jaxdl.engine import seeds
from jaxdl.reinforce.options import ReinforceConfig, completed

PROG = "python -m jaxdl.reinforce"


@command_line(PROG, stopped="stopped between two trainings: go on with --out and --resume")
def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    config = seeds.read_options(argv, ReinforceConfig(), PROG)
    return learn(dataclasses.replace(config, learn=completed(config.learn)))


def learn(config: ReinforceConfig) -> int:
    """Trains with every seed and reports; returns the exit status."""
    from jaxdl.engine import ownstep
    from jaxdl.engine.host import set_up
    from jaxdl.methods import rollout
    from jaxdl.reinforce.report import report
    from jaxdl.reinforce.trainer import Trainer

    set_up()
    options, run = config.learn, config.run
    world = rollout.make(options.env, options.envs or 1)
    trainer = Trainer(options, world)
    with seeds.folder(config, run, f"{options.env.lower()}-{options.algorithm}", {"env": options.env}) as folder:

        def work() -> None:
            for seed in range(run.seed, run.seed + run.seeds):
                with seeds.seed_folder(folder, config, seed) as own:
                    if not own.summary.exists():
                        files.write_json(own.summary, trainer.train(seed, own, quiet=run.quiet))
            wanted = range(run.seed, run.seed + run.seeds)
            print(report(options.env, folder.path, wanted, rollout.reward_threshold(options.env)))

        return ownstep.status(work, folder)


if __name__ == "__main__":
    sys.exit(main())
