"""Style of the report page and of the trace page."""

STYLE = """
:root { color-scheme: light; --line: #d7dbe0; --soft: #f4f6f8; --text: #1c2530; --dim: #5b6775; }
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.45 system-ui, sans-serif; color: var(--text); background: #fff; }
header, main { max-width: 1500px; margin: 0 auto; padding: 12px 24px; }
h1 { font-size: 24px; margin: 8px 0; } h2 { font-size: 18px; margin: 28px 0 6px; } h3 { font-size: 15px; margin: 6px 0; }
nav a { margin-right: 14px; }
.note { color: var(--dim); margin: 4px 0 8px; max-width: 1000px; font-size: 14px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; }
th, td { padding: 4px 10px; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
th { background: var(--soft); }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
tbody tr:hover { background: var(--soft); }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(430px, 1fr)); gap: 16px; }
.card { border: 1px solid var(--line); border-radius: 6px; padding: 8px 12px; }
.card svg { width: 100%; height: auto; display: block; }
svg text { font: 11px system-ui, sans-serif; fill: var(--text); }
.key { display: inline-flex; align-items: center; margin: 0 12px 2px 0; font-size: 13px; }
.key i { width: 12px; height: 12px; border-radius: 2px; margin-right: 5px; }
fieldset { border: 1px solid var(--line); border-radius: 6px; display: inline-block; margin: 0 10px 8px 0; vertical-align: top; }
legend { font-size: 13px; color: var(--dim); }
label { margin-right: 10px; white-space: nowrap; }
.row { border-top: 1px solid var(--line); padding: 8px 0; }
.shots { display: flex; flex-wrap: wrap; gap: 8px; }
figure { margin: 0; width: 320px; } figcaption { font-size: 13px; color: var(--dim); }
figure svg { width: 100%; height: auto; display: block; background: var(--soft); }
figure svg text { paint-order: stroke; stroke: #fff; stroke-width: 3px; font-weight: 600; }
"""
