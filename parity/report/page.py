"""The style and the behaviour of the page."""

STYLE = """
:root { color-scheme: light dark; --paper: #fafaf8; --card: #fff; --ink: #1d2125; --dim: #70777f;
  --line: #e4e4df;
  --pass: #2b8a62; --fail: #cf3f33; --abstain: #b7791f; --skip: #9aa0a6; --floor: #8b93a7; --fix: #eef7f2; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181b; --card: #1c2024; --ink: #e6e8ea;
  --dim: #949ba3;
  --line: #2d3237; --pass: #4fbd8d; --fail: #f0695d; --abstain: #dda94b; --skip: #6d747b; --floor: #77809a;
  --fix: #1a2b24; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.55 system-ui, "Segoe UI",
  Roboto, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 2.5rem 1.5rem 5rem; }
code, .leaf, .row, .layer, .error, .source { font-variant-numeric: tabular-nums; }
code, .source { font: 0.88em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h1 small { font-size: 0.95rem; font-weight: 400; color: var(--dim); margin-left: 0.7rem; letter-spacing: 0; }
h2 { font-size: 1.05rem; margin: 0 0 0.8rem; }
section { margin-top: 2.6rem; }
header { display: flex; gap: 1.5rem; align-items: center; padding: 1.6rem 1.8rem; background: var(--card);
  border: 1px solid var(--line); border-left: 6px solid var(--tone); border-radius: 10px; }
header.pass { --tone: var(--pass); } header.fail { --tone: var(--fail); }
header.abstain { --tone: var(--abstain); } header.skip { --tone: var(--skip); }
.badge { background: var(--tone); color: var(--card); font-weight: 700; letter-spacing: 0.06em;
  padding: 0.7rem 1.1rem;
  border-radius: 8px; }
.lead { margin: 0.35rem 0 0.5rem; font-size: 1.05rem; }
.facts { margin: 0; display: flex; flex-wrap: wrap; gap: 0.35rem 0.5rem; font-size: 0.85rem;
  color: var(--dim); }
.facts span { border: 1px solid var(--line); border-radius: 99px; padding: 0.05rem 0.65rem;
  overflow-wrap: anywhere; }
.dim { color: var(--dim); }
.fault { background: var(--card); border: 1px solid var(--line); border-left: 4px solid var(--fail);
  border-radius: 8px;
  padding: 1rem 1.3rem; margin-bottom: 0.8rem; }
.fault p { margin: 0.3rem 0; }
.what { display: flex; gap: 0.7rem; align-items: baseline; flex-wrap: wrap; }
.what .error { margin-left: auto; color: var(--fail); font-weight: 600; }
.tag { background: var(--fail); color: var(--card); font-size: 0.75rem; font-weight: 600; border-radius: 4px;
  padding: 0.05rem 0.5rem; }
.here { margin-left: 0.6rem; }
.fault .fix { background: var(--fix); border-radius: 6px; padding: 0.5rem 0.8rem; margin: 0.5rem 0; }
.fix::before { content: "Fix"; color: var(--pass); font-weight: 700; margin-right: 0.8rem; }
.source { color: var(--dim); }
.table { background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
.row { display: grid; grid-template-columns: 1.4rem minmax(10rem, 1.4fr) 5.5rem 6.5rem minmax(6rem,
  2fr) 5.5rem 5.5rem;
  gap: 0.8rem; align-items: center; padding: 0.5rem 1.2rem; }
.row > :nth-child(3), .row > :nth-child(4), .row > :nth-child(6), .row > :nth-child(7) { text-align: right; }
.row .wide { grid-column: 3 / -1; text-align: left !important; color: var(--dim); }
.row.skip { color: var(--dim); }
.row.fail > :nth-child(4) { color: var(--fail); font-weight: 600; }
.head { color: var(--dim); font-size: 0.82rem; padding-top: 0.7rem !important; }
.table > * + * { border-top: 1px solid var(--line); }
summary { cursor: pointer; list-style: none; } summary::-webkit-details-marker { display: none; }
summary.row:hover { background: color-mix(in srgb, var(--line) 45%, transparent); }
.mark { font-weight: 700; } .mark.pass { color: var(--pass); } .mark.fail { color: var(--fail); }
.mark.abstain { color: var(--abstain); } .mark.skip { color: var(--skip); }
.leaves { padding: 0.2rem 1.2rem 0.9rem 3.4rem; max-height: 26rem; overflow: auto; font-size: 0.92em; }
.leaf { display: grid; grid-template-columns: 1rem minmax(9rem, 1.3fr) 5rem minmax(5rem, 1fr) minmax(8rem,
  2fr);
  gap: 0.8rem; align-items: center; padding: 0.12rem 0; }
.leaf > :nth-child(3) { text-align: right; } .leaf code { overflow-wrap: anywhere; } .reason {
  color: var(--dim); }
.bar { position: relative; display: block; height: 8px; border-radius: 4px; background: var(--line); }
.bar i { display: block; height: 100%; border-radius: 4px; background: var(--skip); }
.bar i.pass { background: var(--pass); } .bar i.fail { background: var(--fail); } .bar i.abstain {
  background: var(--abstain); }
.bar u { position: absolute; top: -3px; bottom: -3px; width: 2px; background: var(--ink); opacity: 0.55; }
figure { margin: 0 0 1rem; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 1rem 1rem 0.8rem; }
figcaption { color: var(--dim); font-size: 0.88rem; padding: 0.3rem 0.4rem 0; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--dim); font: 12.5px system-ui, "Segoe UI", Roboto, sans-serif; }
svg .name { text-anchor: middle; } svg .power { font-size: 9.5px; }
.grid { stroke: var(--line); }
.beyond { fill: var(--fail); opacity: 0.06; }
line.limit { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 5 4; opacity: 0.6; }
line.floor { stroke: var(--floor); stroke-width: 2; opacity: 0.8; }
.dot { fill: var(--pass); fill-opacity: 0.85; } .dot.fail { fill: var(--fail); } .dot.abstain {
  fill: var(--abstain); }
.dot:hover { stroke: var(--ink); stroke-width: 1.5; }
.curve { fill: none; stroke: var(--ink); stroke-width: 1.6; opacity: 0.75; } .curve.median {
  stroke: var(--floor); }
.legend { display: flex; gap: 1.3rem; flex-wrap: wrap; margin: 0.4rem 0 0; }
.key { display: inline-block; width: 9px; height: 9px; border-radius: 50%; margin-right: 0.4rem;
  background: var(--pass); }
.key.fail { background: var(--fail); } .key.abstain { background: var(--abstain); }
.key.limit, .key.floor { width: 16px; height: 0; border-radius: 0; background: none; vertical-align: middle; }
.key.limit { border-top: 2px dashed var(--dim); } .key.floor { border-top: 2px solid var(--floor); }
.layer { display: grid; grid-template-columns: minmax(12rem, 2fr) minmax(6rem, 1fr) minmax(7rem,
  1.3fr) 4.5rem 5.5rem 4.5rem 5.5rem;
  gap: 0.8rem; align-items: center; padding: 0.36rem 1.2rem; }
.layer > :nth-child(4), .layer > :nth-child(6) { text-align: right; }
.layer.faulty { background: color-mix(in srgb, var(--fail) 9%, transparent); }
ul { margin: 0; padding-left: 1.2rem; } li { margin: 0.25rem 0; }
table { border-collapse: collapse; margin-top: 0.6rem; } td { padding: 0.12rem 1rem 0.12rem 0;
  vertical-align: baseline; }
section > details > summary { color: var(--dim); } section > details > summary::before { content: "▸ "; }
section > details[open] > summary::before { content: "▾ "; }
input { margin-top: 0.7rem; padding: 0.4rem 0.7rem; border: 1px solid var(--line); border-radius: 6px;
  font: inherit;
  background: var(--card); color: inherit; width: 18rem; max-width: 100%; }
#tip { position: fixed; z-index: 2; background: var(--ink); color: var(--paper); font-size: 0.82rem;
  border-radius: 6px;
  padding: 0.3rem 0.6rem; pointer-events: none; max-width: 26rem; }
@media (max-width: 760px) { main { padding: 1rem 0.8rem 3rem; } header { flex-direction: column;
  align-items: flex-start; }
  .row { grid-template-columns: 1.4rem 1fr auto auto; } .row > :nth-child(n + 5):not(.wide) { display: none; }
  .layer { grid-template-columns: 1fr auto auto; } .layer > :nth-child(2), .layer > :nth-child(3), .layer >
  :nth-child(5),
  .layer > :nth-child(7) { display: none; } .leaf { grid-template-columns: 1rem 1fr auto; }
  .leaf > :nth-child(n + 4) { display: none; } .leaves { padding-left: 1.2rem; } }
@media print { body { background: none; } details > * { display: block; } }
"""

SCRIPT = """
const tip = document.getElementById("tip");
for (const dot of document.querySelectorAll("[data-tip]")) {
  dot.addEventListener("mousemove", event => {
    tip.textContent = dot.dataset.tip;
    tip.hidden = false;
    tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = event.clientY + 16 + "px";
  });
  dot.addEventListener("mouseleave", () => { tip.hidden = true; });
}
const find = document.getElementById("find");
find?.addEventListener("input", () => {
  const words = find.value.toLowerCase();
  for (const row of document.querySelectorAll("#weights tr"))
    row.hidden = !row.textContent.toLowerCase().includes(words);
});
"""
