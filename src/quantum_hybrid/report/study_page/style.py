"""CSS of a study's page; its colours come from `colors.color_sheet`."""

from __future__ import annotations

from quantum_hybrid.report.study_page.markup import Markup

STYLE = Markup("""
:root { color-scheme: light dark; }
@media print { :root { color-scheme: light; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--background); color: var(--ink);
  font: 17px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  overflow-wrap: break-word;
}
main { max-width: 60rem; margin: 0 auto; padding: 4rem 1.5rem 6rem; }
p, ul, dl, .lead { max-width: 42rem; }
h1, h2, h3 { line-height: 1.2; text-wrap: balance; letter-spacing: -.012em; }
h1 { font-size: 2.4rem; margin: 0 0 .6rem; font-weight: 700; }
h2 { font-size: 1.5rem; margin: 0 0 1.2rem; }
h3 { font-size: 1.12rem; margin: 2.4rem 0 .3rem; }
h4 { font-size: .85rem; margin: .8rem 0 .1rem; color: var(--quiet); font-weight: 600; }
h2 + h3 { margin-top: 0; }
section { margin-top: 4.5rem; }
a { color: var(--link); text-underline-offset: .2em; }
code { font: .88em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
small { font-size: .8rem; line-height: 1.4; color: var(--quiet); display: block; font-weight: 400; }
.about, .says { color: var(--quiet); margin: 0 0 1rem; }
.about { font-size: 1.1rem; }
.lead { font-size: 1.3rem; line-height: 1.5; margin: 0 0 1em; }
.progress { border-left: 4px solid var(--link); padding: .2rem 0 .2rem 1rem; }
.warnings { border: 2px solid var(--warning); border-radius: 6px; padding: .7rem 1rem;
  margin-top: 1.5rem; }
.warnings ul { list-style: none; padding: 0; margin: 0; max-width: none; }
.warnings li { color: var(--warning); font-weight: 600; }
.warnings li + li { margin-top: .5rem; }
nav { margin-top: 2rem; font-size: .88rem; }
nav ul { list-style: none; padding: 0; margin: 0; display: flex; flex-wrap: wrap; gap: .1rem 1.3rem;
  max-width: none; }
nav a { display: inline-block; padding: .15rem 0; }
nav + section { margin-top: 2.5rem; }

table { border-collapse: collapse; font-size: .9rem;
  font-variant-numeric: tabular-nums lining-nums; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap; padding: 0; }
.caption { color: var(--quiet); font-size: .88rem; margin: 1.2rem 0 0; }
caption { text-align: left; color: var(--quiet); font-size: .88rem; padding: 0 0 .7rem;
  max-width: 42rem; }
th, td { text-align: left; vertical-align: top; padding: .5rem 1.2rem .5rem 0;
  border-bottom: 1px solid var(--rule); font-weight: 400; }
thead th { font-size: .8rem; line-height: 1.3; color: var(--quiet); vertical-align: bottom; }
tbody th { font-weight: 600; }
.numbers td, .numbers thead th:not(:first-child) { text-align: right;
  padding: .5rem 0 .5rem 1.2rem; }
.numbers td { white-space: nowrap; }
.numbers tbody th, .lists tbody th { min-width: 12em; overflow-wrap: anywhere; }
.numbers tbody th { padding-right: .5rem; }
.wide { overflow-x: auto; margin: .4rem 0 1.6rem; position: relative; }
.wide:focus-visible, summary:focus-visible, a:focus-visible { outline: 2px solid var(--link);
  outline-offset: 2px; }
details { margin: .5rem 0; }
summary { cursor: pointer; padding: .3rem 0; color: var(--link); width: fit-content; }
.wide code { white-space: nowrap; }
dl { margin: 0 0 1.5rem; }
dl div { margin-bottom: .6rem; }
dt { color: var(--quiet); font-size: .85rem; }
dd { margin: 0; }
.status { font-weight: 600; white-space: nowrap; }
.status.not-met, .status.open { color: var(--warning); }

.swatch { display: inline-block; width: 26px; height: 3px; vertical-align: middle;
  margin-right: .25rem;
  -webkit-print-color-adjust: exact; print-color-adjust: exact; }
.forest { width: 100%; }
.forest td, .forest th { vertical-align: middle; padding: .35rem 1.2rem .35rem 0; }
.forest th[scope=row] { width: 36%; }
.forest .plot, .forest .scale { width: 34%; padding: 0 1.2rem 0 0; }
.forest thead th { vertical-align: bottom; padding-bottom: .4rem; }
.forest thead .scale { padding-bottom: 0; }
.forest .number { white-space: nowrap; text-align: right; }
.forest .verdict { white-space: nowrap; padding-right: 0; }
.forest .value { font-weight: 600; }
.mark { display: inline-block; width: 1.3em; color: var(--quiet); }
.verdict.circuit-better, .verdict.circuit-worse { font-weight: 600; }

svg { display: block; overflow: visible; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  fill: var(--ink); font-variant-numeric: tabular-nums; }
svg .tick, svg .ticks text, svg .side, svg .off { fill: var(--quiet); }
svg .tick, svg .ticks text { text-anchor: middle; }
svg .end { text-anchor: end; }
svg .rule { stroke: var(--rule); }
.anchor { overflow: visible; }
.differences { min-height: 40px; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
.forest .plot { position: relative; }
.plot .differences { position: absolute; inset: 0 auto 0 0; height: 100%;
  width: calc(100% - 1.2rem); }
.leader { stroke: var(--zero); stroke-width: .75; }
.band { fill: var(--band); }
.zero { stroke: var(--zero); }
.interval { stroke: currentColor; stroke-width: 2.5; stroke-linecap: round; }
circle, .anchor path { fill: currentColor; }
figure { margin: 1rem 0 2.5rem; overflow-x: clip; }
figcaption { color: var(--quiet); font-size: .88rem; max-width: 42rem; margin-top: .3rem; }
.lines { padding: 10px 130px 46px 52px; }
.lines polyline, .stretched line { fill: none; stroke: currentColor; stroke-width: 1.6;
  vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.lines .subject polyline { stroke-width: 3.2; }
.lines .subject text { font-weight: 700; }
.stretched { overflow: hidden; }
.sample { border-top: 1px solid var(--rule); padding: .4rem 0 .8rem; max-width: 42rem; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; }
.answer { border-left: 3px solid var(--zero); padding-left: .8rem; }

@media screen and (max-width: 720px) {
  body { font-size: 16px; }
  main { padding: 2rem 1rem 4rem; }
  h1 { font-size: 1.9rem; }
  .lead { font-size: 1.15rem; }
  section { margin-top: 3.2rem; }
  .lines { padding: 10px 120px 46px 44px; }
  svg .labels text { font-size: 11px; }
  .forest, .forest caption, .forest thead, .forest tbody, .cards, .cards caption, .cards tbody,
  .cards tr, .cards th, .cards td { display: block; }
  .forest thead th:not(.scale), .cards thead { position: absolute; width: 1px; height: 1px;
    overflow: hidden; clip-path: inset(50%); white-space: nowrap; padding: 0; border: 0; }
  .forest tr { display: grid; grid-template-columns: 1fr auto; border-bottom: 1px solid var(--rule);
    padding: .8rem 0 .6rem; }
  .forest thead tr { position: relative; padding: 0; }
  .forest td, .forest th, .forest th[scope=row], .forest .plot, .forest .scale { border: 0;
  padding: 0;
    width: auto; }
  .forest th[scope=row], .forest .plot, .forest .scale { grid-column: 1 / -1; }
  .forest .plot { height: 40px; margin: .3rem 0; }
  .plot .differences { width: 100%; }
  .forest .number { text-align: left; }
  .cards { position: relative; }
  .cards tr { border-bottom: 1px solid var(--rule); padding: .6rem 0; }
  .cards tbody th, .cards td, .numbers.cards td { border: 0; padding: .1rem 0; text-align: left; }
  .numbers.cards tr { display: grid; grid-template-columns: 1fr 1fr 1fr; gap: .2rem 1rem; }
  .numbers.cards th { grid-column: 1 / -1; }
  .numbers.cards td::before { content: attr(data-label); color: var(--quiet); display: block;
    font-size: .8rem; }
}

@media print {
  html { font-size: 13px; }
  body { font-size: 10.5pt; }
  svg text { font-size: 11px; }
  .wide thead th { font-size: 1em; }
  .forest { font-size: .95rem; }
  .forest td, .forest th { padding-right: .7rem; }
  .forest th[scope=row] { width: 33%; }
  main { padding: 0; max-width: none; }
  nav { display: none; }
  section { margin-top: 2rem; }
  h2, h3, h4, caption, .caption { break-after: avoid; }
  figure, tr, .sample, svg, .warnings { break-inside: avoid; }
  thead { display: table-header-group; }
  details::details-content { content-visibility: visible; display: block; block-size: auto; }
  summary { color: var(--quiet); }
  .wide { overflow: visible; }
  .wide table { font-size: .75em; }
  .wide .numbers td, .wide .numbers th { padding-left: .5rem; }
}
""")
