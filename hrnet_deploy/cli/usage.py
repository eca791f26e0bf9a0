"""What click complains about, in the form of every other error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

import click
from click.core import ParameterSource

from hrnet_deploy.errors import EXIT_INPUT, InputError, printable


class CommandGroup(click.Group):
    """A click group that shows its help where no command is given, and knows what is meant."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:
            click.echo(ctx.get_help())
            ctx.exit(EXIT_INPUT)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        names, name = self.list_commands(ctx), args[0]
        if not name.startswith("-") and name not in names:
            near = nearest(name, names)
            hint = f"Did you mean '{near}'?" if near else f"Commands: {', '.join(names)}."
            raise click.UsageError(f"unknown command '{printable(name)}'. {hint}")
        return super().resolve_command(ctx, args)


def given_options() -> Iterator[tuple[str, str]]:
    """Each option of the current command that the user gave: its parameter, its longest name."""
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and isinstance(parameter, click.Option):
            yield name, max(parameter.opts, key=len)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """What was probably meant."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


def as_input_error(error: click.ClickException) -> InputError | None:
    """The option or argument, what is wrong with it, and what to do; None where none is named."""
    context = getattr(error, "ctx", None)
    fix = f"See: {context.command_path} --help" if context else "See --help"
    if isinstance(error, click.NoSuchOption):
        hint = fix if context is None else _hint(error.option_name, context) or fix
        return InputError(error.option_name, "there is no such option", hint)
    if isinstance(error, click.BadOptionUsage):
        return InputError(error.option_name, _without_name(error.message, error.option_name), fix)
    if isinstance(error, click.MissingParameter):
        return InputError(_name_of(error), "is missing", fix)
    if isinstance(error, click.BadParameter):
        return InputError(_name_of(error), _problem_of(error), fix)
    return None


def _hint(option: str, context: click.Context) -> str | None:
    """What was probably meant by an option that there is not."""
    if not option.startswith("--"):
        return "A file whose name begins with - goes behind --"
    names = (name for param in context.command.params for name in param.opts)
    near = nearest(option[2:], [name[2:] for name in names if name.startswith("--")])
    return f"Did you mean --{near}?" if near else None


def _name_of(error: click.BadParameter) -> str:
    """``--batch``, or ``CHECKPOINT`` for an argument."""
    if isinstance(error.param, click.Option):
        return max(error.param.opts, key=len)
    if error.param is not None:
        return str(error.param.metavar or error.param.name or "").upper()
    return str(error.param_hint or "")


def _problem_of(error: click.BadParameter) -> str:
    """Click says neither the kind of number nor the range where a value is no number at all."""
    kind = getattr(error.param, "type", None)
    if not error.message.endswith("range.") or not isinstance(
        kind, click.IntRange | click.FloatRange
    ):
        return error.message
    value = error.message.removesuffix(f" is not a valid {kind.name}.")
    number = "whole number" if isinstance(kind, click.IntRange) else "number"
    return f"{value} is not a {number} in the range {kind._describe_range()}"


def _without_name(message: str, name: str) -> str:
    """``Option '--batch' requires an argument.`` without what stands in front already."""
    return message.removeprefix(f"Option {name!r} ")
