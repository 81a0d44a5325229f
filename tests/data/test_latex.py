"""Tables as LaTeX."""

from __future__ import annotations

from ipip_ext.data.tables import latex


def test_latex_shows_every_sign():
    lines = [["model", "F", "interval"], ["a_b & <c>^~\\", "1.5 +- 0.2", "187-322"], ["d", "-", "-0.3"]]
    body = latex(lines, 1, ["a\nnote"]).splitlines()
    assert body[1] == "% a note"
    assert body[2] == r"\begin{tabular}{lrr}"
    name = r"a\_b \& \textless{}c\textgreater{}\textasciicircum{}\textasciitilde{}\textbackslash{}"
    assert body[6] == rf"{name} & 1.5 $\pm$ 0.2 & 187--322 \\"
    assert body[7] == r"d & -- & -0.3 \\"
