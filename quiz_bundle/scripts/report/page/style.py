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
.verdict ol { margin: 6px 0; padding-left: 22px; }
.verdict li p { margin: 2px 0 8px; }
.warning { color: var(--bad); }
code { font-size: .92em; }
dl.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(185px, 1fr)); gap: 14px 24px;
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
table.words td:last-child { overflow-wrap: anywhere; }
table.words td:first-child { white-space: nowrap; }
table.checks td:nth-child(2) { white-space: nowrap; }
table.pair td:not(:first-child) { overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
.beside { display: flex; flex-wrap: wrap; gap: 0 28px; align-items: flex-start; }
.fields { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 12px 24px; margin-top: 8px; }
.field { display: block; color: var(--soft); font-size: .86rem; }
.field input, .field textarea { display: block; width: 100%; font: inherit; color: var(--ink); background: #fff;
  padding: 5px 2px; border: 0; border-bottom: 1px solid #8b98a3; border-radius: 0; }
.field textarea { border: 1px solid var(--line); resize: vertical; margin-bottom: 12px; }
.looked label { display: inline-block; margin-right: 16px; }
.levels label { white-space: nowrap; }
.controls { display: flex; flex-wrap: wrap; gap: 6px 20px; align-items: center; margin: 8px 0; font-size: .92rem; }
.controls label { display: inline-flex; gap: 6px; align-items: center; }
.controls output { font-variant-numeric: tabular-nums; color: var(--ink); }
.stage { position: relative; width: 100%; aspect-ratio: 5 / 2; background: #000; border-radius: 4px; overflow: hidden; }
.stage canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
#viewer-marks { pointer-events: none; }
table.index { width: 100%; }
table.index td { vertical-align: middle; padding-top: 6px; padding-bottom: 6px; }
table.index td:first-child { min-width: 150px; }
table.index img { display: block; border-radius: 4px; }
table.index a { color: var(--blue); }
tr.accepted b { color: var(--good); }
tr.not-accepted b, tr.failed b { color: var(--bad); }
tr.not-accepted, tr.failed { background: var(--bad-ground); }
footer { margin-top: 18px; font-size: .9rem; color: var(--soft); }
footer strong { color: var(--ink); }
@media (min-width: 701px) { .stage { max-height: 85vh; } }
@media (max-width: 700px) {
  main { padding: 14px; }
  .row { flex-direction: column; }
  .row figure { width: 100%; flex: none !important; }
  table.checks thead, table.levels thead { display: none; }
  table.checks tr { display: grid; grid-template-columns: 1fr auto auto; border-bottom: 1px solid var(--line); }
  table.levels tr { display: grid; grid-template-columns: auto 1fr; border-bottom: 1px solid var(--line); }
  table.checks td, table.levels td { border: 0; }
  table.checks td:first-child { white-space: normal; }
  table.checks td:last-child, table.levels td:nth-child(n + 3) { grid-column: 1 / -1; color: var(--soft); }
}
@media print {
  @page { size: A4; margin: 12mm; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  html { font-size: 10.5px; }
  body { background: #fff; font-size: 1rem; }
  main { max-width: none; padding: 0; }
  section { padding: 6px 12px; margin-top: 6px; }
  .screen { display: none; }
  .dense { columns: 2; }
  .dense table { font-size: .82rem; }
  .fields { grid-template-columns: repeat(3, 1fr); }
  .field input { height: 26px; }
  .field textarea { height: 60px; }
  .row { gap: 5px; }
  h3 { margin-top: 6px; }
  .whole, figure, tr, dl.numbers div { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  dl.numbers { grid-template-columns: repeat(5, 1fr); gap: 6px 14px; }
  dl.numbers dd { font-size: 1.15rem; }
}
"""
