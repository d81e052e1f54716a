"""Which leads long strips are of, once a layout was found.

The layouts that ship have strips of II, V1 and V5; a cart prints whichever lead it was told to. Leads
resemble each other: a strip of V5 keeps the law of II well enough for a layout to be recognised. The name
printed at it, and whose stretch it repeats best, tell that it is another lead's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from datamodules.layout import Layout
from lightning_app.digitize.layouts import Hypothesis
from lightning_app.digitize.results import DigitizeRefusal

# How well a strip repeats its own lead, at least, and how much better than another, for that alone to tell.
REPEATED, CLEARLY = 0.95, 0.02
WHOLLY, BY_FAR = 0.98, 0.1  # likewise where no name is legible: the very same trace, and no other like it
ALIKE = ("II", "III")  # read for one another in print


def with_strips_confirmed(found: Hypothesis, printed: Mapping[int, str]) -> Hypothesis:
    """Give strips the leads that are printed at them and that they repeat.

    Args:
        found: The layout that was recognised.
        printed: Row to the lead whose name stands where its strip begins, as far as it can be read.

    Returns:
        The layout as it is, or with other leads on its strips, a name that says so, and their laws.

    Raises:
        DigitizeRefusal: `LAYOUT_UNKNOWN` where a strip is hardly its layout's lead, and print and law do not
            agree on another.
    """
    leads = {
        row: _lead_of_strip(found.layout.rows[row][0], printed.get(row), repeats)
        for row, repeats in found.repeats.items()
    }
    if all(found.layout.rows[row] == (lead,) for row, lead in leads.items()):
        return found
    checks = {name: value for name, value in found.checks.items() if not name.startswith("rhythm")}
    checks |= {
        f"rhythm {lead}": kept for row, lead in leads.items() if (kept := found.repeats[row].get(lead))
    }
    score = float(np.mean(list(checks.values())))
    return replace(found, layout=with_strips(found.layout, leads), checks=checks, score=score)


def with_strips(layout: Layout, leads: Mapping[int, str]) -> Layout:
    """Exchange the leads of strips.

    Args:
        layout: A layout.
        leads: Row to the lead of its strip.

    Returns:
        The layout under another name: declared by its old one, it would give other leads.
    """
    rows = tuple((leads[row],) if row in leads else names for row, names in enumerate(layout.rows))
    return replace(layout, name=f"{layout.name}, long {', '.join(leads.values())}", rows=rows)


def _lead_of_strip(own: str, printed: str | None, repeats: Mapping[str, float]) -> str:
    """The lead of one strip that is `own` by its layout, and `printed` by its name if that is legible."""
    may_be = ALIKE if printed in ALIKE else (printed or own,)
    # A lead of which too little is drawn counts as drawn upside down: nothing is kept worse than -1.
    kept = {lead: repeats.get(lead, -1.0) for lead in (own, *may_be, *repeats)}
    lead = own if own in may_be else _best(kept, may_be)
    best = _best(kept, kept)
    is_clear = kept[best] >= max(REPEATED, kept[lead] + CLEARLY)
    is_same_trace = kept[best] >= max(WHOLLY, kept[lead] + BY_FAR)
    if is_clear and (best in may_be or (printed is None and is_same_trace)):
        return best
    is_own = lead == own
    if not is_own and kept[lead] <= kept[own]:
        reason = f"a strip named {printed} repeats {lead} ({kept[lead]:.2f}) no more than"
        raise _refusal(f"{reason} {own} ({kept[own]:.2f})")
    # A trace that ink spoils may repeat a neighbour better: where print and layout agree that is no matter.
    is_agreed = is_own and printed is not None
    if is_clear and not is_agreed:
        raise _refusal(f"the strip of {lead} ({kept[lead]:.2f}) rather repeats {best} ({kept[best]:.2f})")
    return lead


def _best(kept: Mapping[str, float], leads: Iterable[str]) -> str:
    return max(leads, key=lambda lead: kept[lead])


def _refusal(reason: str) -> DigitizeRefusal:
    return DigitizeRefusal("LAYOUT_UNKNOWN", reason, "give the page's layout with --layout")
