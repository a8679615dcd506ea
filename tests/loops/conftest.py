"""What tests of loops share."""

from tests.hooks.conftest import unformatted as unformatted
