"""The style sheet of the report page: light, calm, the same on a laptop and on A4."""

STYLE = """
:root { --ink: #22303c; --soft: #5b6b78; --line: #dfe5ea; --ground: #f6f8fa; --blue: #1a64b8; --orange: #a85400;
  --good: #1d7044; --good-ground: #eaf6ef; --bad: #a3261f; --bad-ground: #fcf0ee; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 28px 40px; }
h1 { font-size: 1.35rem; font-weight: 600; margin: 0; }
h2 { font-size: 1.1rem; font-weight: 600; margin: 0 0 4px; }
h3 { font-size: .95rem; font-weight: 600; margin: 14px 0 6px; }
p { margin: 4px 0 8px; max-width: 110ch; }
.soft { color: var(--soft); }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 18px 22px; margin-top: 16px; }
header { display: flex; flex-wrap: wrap; gap: 4px 24px; justify-content: space-between; align-items: baseline; }
.verdict { border-left: 8px solid var(--good); background: var(--good-ground); }
.verdict.refused { border-left-color: var(--bad); background: var(--bad-ground); }
.verdict h2 { font-size: 1.5rem; color: var(--good); }
.verdict.refused h2 { color: var(--bad); }
.verdict ul { margin: 6px 0; padding-left: 22px; }
dl.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(215px, 1fr)); gap: 14px 24px;
  margin: 10px 0 0; }
dl.numbers div { border-top: 2px solid var(--line); padding-top: 6px; }
dl.numbers dt { color: var(--soft); font-size: .86rem; }
dl.numbers dd { margin: 0; font-size: 1.3rem; font-weight: 600; font-variant-numeric: tabular-nums; }
dl.numbers dd small { display: block; font-size: .82rem; font-weight: 400; color: var(--soft); }
.row { display: flex; gap: 10px; align-items: flex-start; }
figure { margin: 0; min-width: 0; }
figure img { display: block; width: 100%; height: auto; border-radius: 4px; }
figcaption { font-size: .84rem; color: var(--soft); }
.key span { display: inline-block; margin-right: 18px; }
.key i { display: inline-block; width: .9em; height: .9em; margin-right: 6px; vertical-align: -1px; border-radius: 2px;
  border: 1px solid #0003; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 3px 14px 3px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--soft); }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
table.words th, table.words td { text-align: left; }
table.words td:last-child { word-break: break-all; }
.wide { overflow-x: auto; }
footer { margin-top: 18px; font-size: .9rem; color: var(--soft); }
footer strong { color: var(--ink); }
@media (max-width: 700px) {
  main { padding: 14px; }
  .row { flex-direction: column; }
  .row figure { width: 100%; flex: none !important; }
}
@media print {
  @page { size: A4; margin: 12mm; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  html { font-size: 10.5px; }
  body { background: #fff; font-size: 1rem; }
  main { max-width: none; padding: 0; }
  section { padding: 6px 12px; margin-top: 6px; }
  .row { gap: 5px; }
  h3 { margin-top: 6px; }
  .whole, figure, tr, dl.numbers div { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  dl.numbers { grid-template-columns: repeat(4, 1fr); gap: 6px 14px; }
  dl.numbers dd { font-size: 1.15rem; }
}
"""
