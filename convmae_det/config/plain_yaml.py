"""YAML as plain values: no code in it is run, and none of it is trusted to be small."""

import itertools
from pathlib import Path

import yaml

from ..errors import InputError, one_line

MAX_VALUES = 100_000  # in one file; ours have some 400


class PlainLoader(yaml.SafeLoader):
    """yaml.SafeLoader, but a short file can't stand for a huge tree, or one without end, by referring to its parts."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _count_values(node, {})
        return node


def _count_values(node: yaml.Node, counted: dict[int, int]) -> int:
    """In the tree below `node`, each as often as it is referred to. Raises yaml.YAMLError: too many, or no end."""
    if id(node) not in counted:
        counted[id(node)] = MAX_VALUES  # of one that is reached from itself
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        pairs = itertools.chain(*inner) if isinstance(node, yaml.MappingNode) else inner
        counted[id(node)] = 1 + sum(_count_values(part, counted) for part in pairs)
    if counted[id(node)] > MAX_VALUES:
        problem = f"it refers to itself, or stands for more than {MAX_VALUES:,} values"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    return counted[id(node)]


def read_plain_yaml(path: str | Path) -> object:
    """What a YAML file holds. Raises InputError: it can't be read, or more than plain values stand in it."""
    try:
        with Path(path).expanduser().open(encoding="utf-8") as file:
            return yaml.load(file, PlainLoader)
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}): check the path") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # also of dates that there are not
        where = getattr(error, "problem_mark", None)
        where = f"{where.name}, line {where.line + 1}," if where else path
        problem = getattr(error, "problem", None) or one_line(error)
        raise InputError(f"{where} is not plain YAML ({problem}): correct it") from error
