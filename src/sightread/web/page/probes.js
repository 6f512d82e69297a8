// Two encoders' answers to a probe, side by side.

import { $, chips, counted, fixed, h, say } from "./dom.js";
import { latest } from "./server.js";
import { about, state, write } from "./state.js";

let shown = []; // the rows so far

export function askProbes(begin = 0) {
  const encoders = Object.keys(about.probes);
  const both = encoders.length > 1 ? about.probes[state.first].filter((p) => about.probes[state.second].includes(p)) : [];
  $("#probes-body").hidden = encoders.length < 2;
  $("#probes-note").hidden = encoders.length > 1;
  if (encoders.length < 2) return;
  if (!both.includes(state.probe)) state.probe = both[0] ?? null;
  for (const [id, values] of [["first", encoders], ["second", encoders], ["probe", both]]) {
    $(`#${id}`).replaceChildren(...values.map((value) => h("option", { value, selected: value === state[id] }, value)));
  }
  if (!both.length) return say("these two have answered no probe in common");
  const { first, second, probe: name, kind } = state;
  latest("compare", { first, second, name, kind, begin }, ({ rows, ...sums }) => {
    shown = begin ? [...shown, ...rows] : rows;
    drawProbes(sums);
  });
}

function drawProbes({ scores, counts }) {
  const names = [state.first, state.second];
  const interval = ({ low, high }) => h("small", {}, low === null ? "" : ` ${fixed(low)} to ${fixed(high)}`);
  $("#scores").replaceChildren(...scores.map((score, i) =>
    h("p", {}, h("b", {}, fixed(score.value, 3)), names[i], interval(score))));
  const words = { all: "all", first: `${names[0]} is better`, second: `${names[1]} is better`, equal: "no difference" };
  const labels = Object.fromEntries(Object.keys(words).map((kind) => [kind, `${words[kind]}, ${counted(counts[kind])}`]));
  if (!$("#kind").contains(document.activeElement)) {
    chips($("#kind"), "radio", Object.keys(words), [state.kind], ([kind]) => {
      state.kind = kind;
      write();
      askProbes();
    }, labels);
  }
  const headings = ["question", "right", ...names].map((name) => h("th", { scope: "col" }, name));
  $("#probes thead").replaceChildren(h("tr", {}, headings));
  $("#probes tbody").replaceChildren(...shown.map(drawRow));
  $("#more").hidden = shown.length >= counts[state.kind];
}

function drawRow({ item, against, gold, said, values, better }) {
  const written = (value) => (typeof value === "number" ? fixed(value) : value ?? "");
  const judged = (value) => (value >= 1 ? "right" : value > 0 ? "undecided" : "wrong");
  const question = h("td", {}, item, against ? h("small", {}, `not: ${against}`) : null);
  const answers = said.map((one, i) =>
    h("td", { className: better === ["first", "second"][i] ? "won" : "" }, one === null ? judged(values[i]) : written(one)));
  return h("tr", {}, question, h("td", {}, written(gold)), answers);
}

export const askMore = () => askProbes(shown.length);
