"""The command `mmfrozen`: each subcommand is the module of that name.

It lies beside the package, as importing `mmfrozen` registers everything with
MMDetection, which takes seconds that `mmfrozen --help` should not.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from difflib import get_close_matches
from importlib import import_module

COMMANDS = {
    'savings': 'FLOPs, memory and parameters that freezing saves',
    'freeze': 'freeze any MMDetection config, and write its control',
    'describe': 'which parts of a model are frozen, and what trains',
    'check': 'faults of an annotation file and its images',
    'browse': 'draw augmented training samples',
    'pair': 'train an experiment and its control',
    'verify': "compare a checkpoint's backbone with its classifier",
    'strata': 'AP by class and by number of annotations, with intervals',
    'compare': 'work dirs side by side: cost, AP, learning curves, drift',
    'experiments': 'list the experiments of the config pack',
    'mini-lvis': 'write the embedded data set',
    'lite0-weights': 'write the weights of the embedded experiments',
}


def make_parser(description: str | None, examples: str) -> ArgumentParser:
    """Make the parser of a command, whose help ends with examples."""
    return ArgumentParser(
        description=description,
        epilog=examples,
        formatter_class=RawDescriptionHelpFormatter,
    )


def print_error(error: Exception) -> None:
    """Print an error in one line, and beneath it what it was raised from
    where that says more."""
    print(f'error: {error}', file=sys.stderr)
    cause = error.__cause__
    while cause is not None:
        text = str(cause).strip()
        if ' '.join(text.split()).rstrip('.') not in str(error):
            print(f'{type(cause).__name__}: {text}', file=sys.stderr)
        # mmengine names the module that failed, not what failed in it
        hidden = cause.__context__ if isinstance(cause, ImportError) else None
        cause = cause.__cause__ or hidden


def main() -> int:
    """Run a subcommand.

    Returns:
        Its exit status; 2 if there is no such subcommand.
    """
    command, *options = sys.argv[1:] or ['--help']
    if command in ('-h', '--help'):
        print('usage: mmfrozen COMMAND ...\n\ncommands:')
        for name, text in COMMANDS.items():
            print(f'  {name:15}{text}')
        print('\n`mmfrozen COMMAND --help` has the options, with examples.')
        return 0
    if command == '--version':
        from mmfrozen.version import __version__

        print(__version__)
        return 0
    if command not in COMMANDS:
        near = get_close_matches(command, COMMANDS, n=1)
        remedy = f'Did you mean {near[0]!r}?' if near else 'Correct it.'
        print(
            f'error: COMMAND must be one of {", ".join(COMMANDS)}, got '
            f'{command!r}. {remedy} See mmfrozen --help.',
            file=sys.stderr,
        )
        return 2
    sys.argv = [f'mmfrozen {command}', *options]
    module = import_module(f'.{command.replace("-", "_")}', __name__)
    return module.main() or 0
