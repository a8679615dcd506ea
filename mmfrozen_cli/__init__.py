"""This package contains the command `mmfrozen`, one module per subcommand.

It is separate from the package `mmfrozen`, whose import registers everything
with MMDetection. That takes seconds, for which `mmfrozen --help` should not
wait.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module

COMMANDS = {
    'savings': 'compute the FLOPs, memory and parameters that freezing saves',
    'cache-advice': 'predict whether a cache of features saves time',
    'freeze': 'freeze any MMDetection config, and write its control',
    'describe': 'show which parts of a model are frozen and which train',
    'check': 'find faults in an annotation file and its images',
    'browse': 'draw augmented training samples',
    'cache': 'store the features of a frozen backbone',
    'pair': 'train an experiment and its control',
    'verify': "compare a checkpoint's backbone with its classifier",
    'strata': 'compare AP by class and by number of annotations',
    'compare': 'compare work dirs: cost, AP, learning curves, drift',
    'reproduce': "test the paper's claims on mini-LVIS",
    'experiments': 'list the experiments of the config pack',
    'mini-lvis': 'write the embedded data set mini-LVIS',
    'lite0-weights': 'write the classifier of the mini-LVIS configs',
}

#: Largest number of characters of a message.
LONGEST = 4_000
#: Characters that control a terminal, and surrogates.
ACTING = re.compile(
    '[\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]'
)


def make_parser(description: str | None, examples: str) -> ArgumentParser:
    """Return the parser of a command; its help ends with the examples."""
    return ArgumentParser(
        description=description,
        epilog=examples,
        formatter_class=RawDescriptionHelpFormatter,
    )


def add_cfg_options(parser: ArgumentParser) -> None:
    """Add ``--cfg-options``, a dict of keys, to a parser."""
    from mmengine.config import DictAction

    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help="override keys of the config, as in MMDetection's train.py",
    )


def plain(text: str, *, keep: str = '') -> str:
    """Return a text with control characters escaped as in Python literals.

    A name could otherwise move the cursor, set colours or change the writing
    direction of a terminal. Unpaired surrogates, which cannot be printed, are
    escaped too.

    Args:
        text: Text to print.
        keep: Characters that are not escaped, such as ``'\\n'``.
    """
    return ACTING.sub(
        lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1],
        text,
    )


def print_error(error: Exception) -> None:
    """Print an error in one line, and below it those of its causes that say
    more than the error itself."""
    print_line('error', error)
    cause = error.__cause__
    while cause is not None:
        text = str(cause).strip()
        if ' '.join(text.split()).rstrip('.') not in str(error):
            print_line(type(cause).__name__, text, keep='\n')
        # mmengine names the module whose import failed, but not the reason
        hidden = cause.__context__ if isinstance(cause, ImportError) else None
        cause = cause.__cause__ or hidden


def print_line(kind: str, text: object, *, keep: str = '') -> None:
    """Print an error or a note to standard error, escaped and shortened.

    Args:
        kind: Label in front of the text, such as ``'error'``.
        text: The message; names in it may contain any characters.
        keep: Characters that are not escaped.
    """
    shown = plain(str(text), keep=keep)
    if len(shown) > LONGEST:
        shown = f'{shown[:LONGEST]}...'
    print(f'{kind}: {shown}', file=sys.stderr)


def run_command(name: str) -> int:
    """Run a subcommand with the options in ``sys.argv``.

    Returns:
        Its exit status; 2 if its output cannot be written, 130 if it was
        interrupted.
    """
    # warnings of other packages do not concern users
    if not sys.warnoptions:
        warnings.simplefilter('ignore')
    return _in_one_line(
        lambda: import_module(f'.{name.replace("-", "_")}', __name__).main()
    )


def _in_one_line(call: Callable[[], int | None]) -> int:
    """Call a function that prints, and report an interrupt or a full disk in
    one line instead of a traceback."""
    status = 0
    try:
        try:
            status = call() or 0
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        print_line('stopped', 'Interrupted before it was done.')
        return 130
    except OSError as error:
        if error.filename is not None:
            raise
        if not status:  # otherwise an error was printed already
            print_line(
                'error',
                f'The output must be written, got {error.strerror}. Free '
                'disk space, or redirect the output elsewhere.',
            )
        # Python flushes standard output again at exit, which would fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    return status


def main() -> int:
    """Run the subcommand that the command line names.

    Returns:
        Its exit status; 2 if there is no such subcommand.
    """
    command, *options = sys.argv[1:] or ['--help']
    if command in ('-h', '--help'):
        return _in_one_line(print_help)
    if command == '--version':
        return _in_one_line(print_version)
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
    return run_command(command)


def print_help() -> None:
    """Print the list of subcommands."""
    print('usage: mmfrozen COMMAND ...\n\ncommands:')
    for name, text in COMMANDS.items():
        print(f'  {name:15}{text}')
    print('\n`mmfrozen COMMAND --help` shows the options and examples.')


def print_version() -> None:
    """Print the version of the package."""
    from mmfrozen.version import __version__

    print(__version__)
