"""axe-core on a page: what it finds there against WCAG 2.2 AA and good practice."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from playwright.sync_api import Page

from tests.peers import ROOT, missing

AXE = ROOT / "webui" / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")

# Where a theme changes under a page, Chromium now and then keeps an inherited colour of the one before; a
# page opened in the theme has the right one. So every style is computed anew before colours are judged.
_RUN = """async (wanted) => {
  const root = document.documentElement;
  root.style.display = "none";
  root.getBoundingClientRect();
  root.style.removeProperty("display");
  await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
  const found = await axe.run(document, { runOnly: wanted, resultTypes: ["violations"] });
  return found.violations.map(({ id, help, nodes }) => ({ id, help, nodes: nodes.map((node) =>
    node.target.join(" ") + ": " + [...node.any, ...node.all, ...node.none]
      .map((c) => c.message).join("; ")) }));
}"""


def violations(page: Page, *, rules: Iterable[str] = ()) -> list[str]:
    """What axe finds wrong with the page as it stands, a sentence each; with `rules` by those alone.

    The script comes in by the debugger, which the page's content security policy does not concern.
    """
    if not page.evaluate("() => typeof axe === 'object'"):
        page.evaluate(_source())
    named = list(rules)
    wanted = {"type": "rule", "values": named} if named else {"type": "tag", "values": list(TAGS)}
    found: list[dict[str, Any]] = page.evaluate(_RUN, wanted)
    return [f"{one['id']} ({one['help']}): {node}" for one in found for node in one["nodes"]]


@cache
def _source() -> str:
    if not AXE.exists():
        missing("axe-core is not installed (make build-web)")
    return AXE.read_text("utf-8")
