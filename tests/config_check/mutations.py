"""One mistake in a config, as people make them."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from mmengine.runner import Runner

from mmfrozen.config_check.places import TOP

#: What a training run reads; all else are variables of the config.
READ = set(inspect.signature(Runner.__init__).parameters) & TOP
UNREAD = {'test_dataloader', 'test_evaluator', 'test_cfg', 'work_dir'}
KEY = ('typo', 'typo beside')
VALUES: tuple[Any, ...] = (None, 0, -1, -0.5, float('nan'), '', [], {}, True)


@dataclass(frozen=True)
class Mutation:
    """A config with one mistake.

    Attributes:
        cfg: The config.
        path: Where, as typed on a command line.
        kind: What was done there.
        typed: The word that a good error has: the key, or the misspelt type.
        value: What stands there now.
    """

    cfg: dict[str, Any]
    path: str
    kind: str
    typed: str
    value: Any

    def __repr__(self) -> str:
        return f'{self.path} [{self.kind}] {self.value!r:.80}'


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all keys of dicts, at any depth."""
    found = []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if not path and (key not in READ or key in UNREAD):
            continue
        if isinstance(value, dict):
            found.append((*path, key))
        if isinstance(item, (dict, list)):
            found += places(item, (*path, key))
    return found


def slips(word: str) -> list[str]:
    """Slips of the finger: a letter lost, doubled, exchanged, out of
    order."""
    made = []
    for i in range(len(word)):
        made.append(word[:i] + word[i + 1 :])
        made.append(word[: i + 1] + word[i:])
        made.append(word[:i] + 'x' + word[i + 1 :])
        made.append(word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :])
    return [w for w in dict.fromkeys(made) if w and w != word]


def wrong_values(value: Any) -> list[Any]:
    """Values of another kind or out of range."""
    made: list[Any] = [*VALUES, [value], str(value)]
    if isinstance(value, (list, tuple)):
        made += [value[::-1], value[:-1], [*value, *value[-1:]], [0, 0]]
    elif isinstance(value, (int, float)):
        made += [value + 1, -value, value + 0.5]
    elif isinstance(value, str):
        made += [1, value.upper(), *slips(value)[:3]]
    return [
        one for one in made if type(one) is not type(value) or one != value
    ]


@st.composite
def mutations(draw: st.DrawFn, cfg: dict[str, Any]) -> Mutation:
    """One mistake anywhere in what a run reads, every fifth at the top."""
    everywhere = places(cfg)
    at_top = [p for p in everywhere if len(p) == 1]
    path = draw(
        st.sampled_from(draw(st.sampled_from([at_top] + 4 * [everywhere])))
    )
    *above, key = path
    cfg = copy.deepcopy(cfg)
    inside = cfg
    for step in above:
        inside = inside[step]
    kind = draw(st.sampled_from((*KEY, 'value', 'value')))
    if key == 'type' and kind in KEY:
        kind = 'value'
    dotted = '.'.join(map(str, path))
    value = inside[key]
    typed = str(key)
    if kind == 'value' and key == 'type':
        scoped = ['mmdte.' + value, value + 's', *slips(value)]
        value = inside[key] = draw(st.sampled_from(scoped))
        typed = value
    elif kind == 'value':
        value = inside[key] = draw(st.sampled_from(wrong_values(value)))
    else:
        typed = draw(st.sampled_from(slips(key)))
        inside[typed] = value
        if kind == 'typo':
            del inside[key]
        dotted = '.'.join(map(str, (*above, typed)))
    return Mutation(cfg, dotted, kind, typed, value)
