"""Another form of a module's own method, given to it from outside; the module stays of its class, with its names."""

import copy
import weakref
from collections.abc import Callable
from typing import Any

from torch import nn


class Form:
    """A function of a module and of what its method takes, to be set in the method's place on the module alone.

    It is copied and saved with the module, and doesn't keep it alive.
    """

    def __init__(self, function: Callable[..., Any], module: nn.Module):
        self.function, self._module = function, weakref.ref(module)

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.function(self._module(), *inputs, **options)

    def __deepcopy__(self, memo: dict) -> "Form":
        return Form(self.function, copy.deepcopy(self._module(), memo))

    def __reduce__(self) -> tuple:
        return Form, (self.function, self._module())
