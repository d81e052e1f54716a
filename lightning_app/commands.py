"""The shape of our commands: every wrong option of a line is told at once, where click stops at the first."""

from __future__ import annotations

import click


class Command(click.Command):
    """A command that looks at all its options before it complains."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line.

        Raises:
            click.UsageError: With the complaints of all options, one a line.
        """
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.BadParameter:  # a missing one is a bad one, too
            complaints = self._complaints(ctx, given)
            raise click.UsageError("\n".join(complaints), ctx) from None

    def _complaints(self, ctx: click.Context, args: list[str]) -> list[str]:
        values, _, _ = self.make_parser(ctx).parse_args(args)
        found = []
        for parameter in self.get_params(ctx):
            try:
                parameter.handle_parse_result(ctx, values, [])
            except click.UsageError as error:
                found.append(error.format_message())
        return found


class Group(click.Group):
    """A group of such commands."""

    command_class = Command
